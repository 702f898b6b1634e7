"""Records, Markdown, formulas, tables and plots as safe HTML and its plain-text twin."""
