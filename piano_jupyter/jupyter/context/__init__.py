"""What a question takes from the notebook: variables where it is asked, its cells, the last error."""
