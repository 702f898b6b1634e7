"""Messages become jobs, and jobs become turns whose events are stored, then published."""
