"""What a command line holds, whether it runs others, what it reaches for. Pure: for rules and for people."""
