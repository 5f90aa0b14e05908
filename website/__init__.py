"""Builds the site of the documentation: `python -m website`."""
