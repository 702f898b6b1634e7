"""The chat panel: its content, and the widget."""
