"""The sub-commands of %piano, by what they are about; `dispatch.py` puts them together."""
