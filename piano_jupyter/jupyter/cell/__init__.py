"""What a cell shows: while it waits for an answer, and when its value is a record."""
