"""%piano and %%piano: what was typed becomes a sub-command that runs."""
