"""The work: messages become jobs, and jobs become turns whose events are kept, then published."""
