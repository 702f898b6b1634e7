"""The magics %piano and %%piano: parse a line or cell, run its sub-command, complete its words."""
