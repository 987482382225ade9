"""What holds for a whole run: the seed of the kill loop, drawn once and printed at the top; that nothing was told which is secret."""

import os
import secrets

import pytest

from tests.told import begin, pytest_sessionfinish, pytest_terminal_summary

__all__ = ["pytest_sessionfinish", "pytest_terminal_summary"]  # pytest calls them

SEED = "KILL_SEED"


def pytest_configure() -> None:
    """Draw the seed, and make the folder of what is told, before any worker process starts: all of them have the same."""
    begin()
    os.environ.setdefault(SEED, str(secrets.randbelow(10**6)))


def pytest_report_header(config: pytest.Config) -> str:
    """Say how the kill loop of this run is repeated."""
    rounds = os.environ.get("KILL_ROUNDS", "10")
    return f"kill loop: make kills ROUNDS={rounds} SEED={os.environ[SEED]} (workers: {config.option.numprocesses or 1})"
