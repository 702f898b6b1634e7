"""The files of the workspace, held by descriptor: read, create, edit, and what is not to be touched."""
