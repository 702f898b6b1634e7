"""Values and JSON Schemas: a call's arguments, an answer that is data."""
