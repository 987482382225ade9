"""Flows over in-memory ports."""
