"""The tools that touch the user's notebook: variables, inspect, query, cells, last_error, add_cell, run_python."""
