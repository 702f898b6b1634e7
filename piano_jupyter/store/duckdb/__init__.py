"""The store in DuckDB: one file, one thread that writes."""
