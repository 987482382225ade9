"""What a child process is given."""

import pytest

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
