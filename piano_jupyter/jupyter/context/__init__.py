"""What the notebook tells a model: its cells and their outputs, and the last error."""
