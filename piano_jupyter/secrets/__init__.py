"""Secrets out of what is kept, shown, logged or sent: their patterns, and those that are known."""
