"""What a question takes from the notebook: the variables where it is asked, and names such as `Out[3]`."""
