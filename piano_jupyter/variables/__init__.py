"""The user's variables as text for a model: looked up by name, never called, and cut to a budget."""
