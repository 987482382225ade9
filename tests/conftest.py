"""What holds for a whole run: the seed of the kill loop, drawn once and printed at the top."""

import os
import secrets

import pytest

SEED = "HEADRACE_KILL_SEED"


def pytest_configure() -> None:
    """Draw the seed before any worker process starts, so that all of them have it."""
    os.environ.setdefault(SEED, str(secrets.randbelow(10**6)))


def pytest_report_header(config: pytest.Config) -> str:
    """Say how the kill loop of this run is repeated."""
    rounds = os.environ.get("HEADRACE_KILL_ROUNDS", "10")
    return f"kill loop: make kills ROUNDS={rounds} SEED={os.environ[SEED]} (workers: {config.option.numprocesses or 1})"
