"""bash, in a sandbox that stays for a thread, or bare after a yes."""
