"""The store process: holds the database for all kernels of a workspace, and what kernels need to speak to it."""
