"""The sub-commands of %piano, by what they are about; `catalog.py` lists them."""
