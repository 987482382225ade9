"""Core: pure functions, held to properties."""
