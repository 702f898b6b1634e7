"""The model: what is asked of it, the way to it, what comes back."""
