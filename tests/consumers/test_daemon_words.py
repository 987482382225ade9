"""What the supervisor says of a daemon whose children say nothing."""

import json

import pytest

from consumers import daemon
from pipeline.machine.processes import wait_until
from tests.consumers.test_daemon import (  # noqa: F401 - `supervise` is a fixture
    OPENED,
    Supervise,
    _fake,
    _Said,
    supervise,
)

CRASHED = '{"fact":"WorkerCrashed","worker":"kcl","error":"Corrupt at s3.py:7 the reason"}'


def _java(*lines: tuple[str, ...]) -> str:
    """Return code that logs as the daemon does."""
    return f"print({chr(10).join(map(chr(9).join, lines))!r}, flush=True)"


def test_the_last_error_of_java_is_the_reason_where_no_child_gave_one(supervise: Supervise) -> None:  # noqa: F811
    """With the class of the exception; a later warning is none, and a child's own words are better."""
    error = ("ERROR", "Scheduler", "Worker.run caught exception", "software.amazon.DependencyException")
    lines = _java(("ERROR", "Older", "x", ""), error, ("WARN", "Later", "never mind", ""))
    ended = supervise(_fake(f"{lines}; os._exit(1)"), limit=1).wait()
    assert ended.endswith(
        "status 1: Scheduler reported software.amazon.DependencyException: Worker.run caught exception"
    )
    ended = supervise(_fake(f"{lines}; say({CRASHED!r}); os._exit(1)"), limit=1).wait()
    assert ended.endswith("status 1: Corrupt at s3.py:7 the reason")
    warned = _java(("WARN", "Later", "never mind", ""))
    assert supervise(_fake(f"{warned}; os._exit(1)"), limit=1).wait().endswith("status 1: it said nothing")


@pytest.mark.parametrize("opened", [False, True])
def test_a_daemon_without_a_shard_is_told_of_once(
    *,
    opened: bool,
    supervise: Supervise,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it waits for and how long that may take; of one that has a shard nothing is told."""
    monkeypatch.setattr(daemon, "_SILENT_SECONDS", 1.0)
    said = _Said(capfd)
    first = f"say({OPENED!r})" if opened else "pass"
    run = supervise(
        _fake(f"{first}\n{_java(('WARN', 'Here', 'begins', ''))}\ntime.sleep(2)\nprint('later', flush=True)")
    )
    assert wait_until(lambda: said.has('"text":"later"'), 20)
    run.stop()
    told = [json.loads(line) for line in said.text.splitlines() if '"ShardsAwaited"' in line]
    assert len(told) == (0 if opened else 1)
    assert all(one["may_take_seconds"] == 200 and "a leader" in one["waits_for"] for one in told)
