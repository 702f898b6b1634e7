"""Reading and shortening text: Markdown, JSON, invisible characters."""
