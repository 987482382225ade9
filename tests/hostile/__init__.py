"""Hostile input: what was expected of each was written down before it was run."""
