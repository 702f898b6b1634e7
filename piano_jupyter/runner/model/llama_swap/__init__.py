"""The server that swaps models: which it has, their states, and its events."""
