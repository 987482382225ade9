"""What a child process is given."""

from types import SimpleNamespace

import pytest

from pipeline.machine import processes
from pipeline.machine.processes import outside_environment


def test_a_child_gets_no_settings_and_credentials_only_where_it_needs_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is set for headrace never reaches a child by itself, what is set for AWS only when asked for."""
    given = {"HEADRACE_HOME": "there", "AWS_PROFILE": "mine", "OTHER": "stays"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert given.keys() & outside_environment().keys() == {"OTHER"}
    assert given.keys() & outside_environment(with_aws=True).keys() == {"AWS_PROFILE", "OTHER"}


def test_a_long_wait_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two seconds, then every ten, until what is waited for has come; a short wait is silent."""
    seconds = [0.0]
    told: list[float] = []
    clock = SimpleNamespace(
        monotonic=lambda: seconds[0], sleep=lambda _: seconds.__setitem__(0, seconds[0] + 0.5)
    )
    monkeypatch.setattr(processes, "time", clock)
    assert processes.wait_until(lambda: seconds[0] >= 25, 60, lambda: told.append(seconds[0]))
    assert told == [2, 12, 22]
    seconds[0] = 0
    assert not processes.wait_until(lambda: False, 1, lambda: told.append(seconds[0]))
    assert told == [2, 12, 22]
