"""Skills: read from folders, checked, and given to a turn."""
