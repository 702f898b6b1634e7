"""The embedded model: a server in a process of its own, and its weights."""
