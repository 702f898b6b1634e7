"""The sub-commands of %piano, by what they are about; `magics.py` puts them together."""
