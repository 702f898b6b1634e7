"""The tool bash: its shells, and the sandbox that they run in."""
