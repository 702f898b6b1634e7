"""Masking secrets in what is stored, shown, logged or sent: by their patterns, and by the values that are known."""
