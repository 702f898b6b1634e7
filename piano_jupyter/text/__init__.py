"""What a text says: Markdown as text, and characters that the eye does not see."""
