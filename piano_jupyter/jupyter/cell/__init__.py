"""The output of cells: while they wait for answers, and when their value is a record."""
