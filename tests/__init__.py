"""Tests, by floor; `tests.fakes` and `tests.sim` are imported by several of them."""
