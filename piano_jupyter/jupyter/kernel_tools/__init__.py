"""The tools that touch the user's variables: variables, inspect, query, run_python, add_cell."""
