"""The file tools: reading, creating and editing files of the workspace by descriptor, and which files they refuse."""
