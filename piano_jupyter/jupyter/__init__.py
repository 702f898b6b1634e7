"""The front ends in a notebook: magics, cell, panel. Nothing else imports Jupyter."""
