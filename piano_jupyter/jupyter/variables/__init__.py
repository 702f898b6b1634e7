"""The user's variables, looked at and run with, on the kernel's thread."""
