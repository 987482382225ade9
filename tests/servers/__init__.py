"""Servers of other makers, as second opinions: installed once into a cache outside the repository, started by tests."""
