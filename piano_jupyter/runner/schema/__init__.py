"""JSON Schema: values are checked against it, and answers become values."""
