"""Processes that use one control store at once: `python -m tests.store.several start|write URL NAME`."""

import subprocess
import sys
from collections.abc import Sequence

from pipeline.ports.clock import SystemClock
from pipeline.store.open import Patience, migrated, open_control
from tests.store.values import act, key

WRITES = 15
_PATIENCE = Patience(30.0)


def together(what: str, url: str, names: Sequence[str]) -> list[str]:
    """Run one process for each name; they begin when all of them are ready. Return what they said."""
    command = [sys.executable, "-m", "tests.store.several", what, url]
    processes = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    for one in processes:
        assert one.stdout
        assert one.stdout.readline() == "ready\n"
    for one in processes:  # each waits for its line
        assert one.stdin
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=40)[0].strip() for one in processes]
    assert [one.returncode for one in processes] == [0] * len(names)
    return said


def _start(url: str) -> str:
    before = migrated(url, SystemClock(), _PATIENCE)
    open_control(url, SystemClock(), patience=_PATIENCE).plans()
    return before


def _write(url: str, tenant: str) -> str:
    control = open_control(url, SystemClock(), patience=_PATIENCE)
    for number in range(WRITES):
        control.put_key(key(f"{tenant}{number}", tenant=tenant), act("key.create"), new=True)
        control.keys_used({f"{tenant}{number}": number})
    return "done"


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    _, what, url, name = sys.argv
    print(_start(url) if what == "start" else _write(url, name))
