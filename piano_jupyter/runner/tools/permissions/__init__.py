"""Whether a call may run: mode, rules, and what a command line holds."""
