"""The chat panel: what it shows, and the widget that shows it."""
