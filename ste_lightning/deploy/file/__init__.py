"""A packed network in one file."""
