"""Notebooks are compared without a model: what was not recorded is an error that shows the difference."""

import os

os.environ["PIANO_REPLAY"] = "strict"
