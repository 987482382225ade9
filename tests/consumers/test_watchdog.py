"""What the watchdogs end, and what they let be: only computing over a batch counts."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.machine.processes import wait_until
from tests.consumers.test_reader import PATIENCE, Deployment, deploy, endpoint

__all__ = ["deploy", "endpoint"]  # fixtures
_HEAD = "import time, threading\nfrom consumers.watchdog import Watchdogs\ndogs = Watchdogs({seconds}, time.monotonic)\n"
_HELD = "import ctypes; ctypes.PyDLL(None).sleep(30)"  # as C does that holds the interpreter
_WAITS = "threading.Event().wait(30)"


def _ended(code: str, seconds: float = 0.6) -> tuple[int, str]:
    answer = subprocess.run(
        [sys.executable, "-c", _HEAD.format(seconds=seconds) + code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return answer.returncode, answer.stderr


@pytest.mark.parametrize("hangs", [_HELD, _WAITS], ids=["holds the interpreter", "waits"])
@pytest.mark.parametrize("start", ["dogs.start()", ""], ids=["looking", "before the first look"])
def test_a_batch_that_comes_to_no_end(hangs: str, start: str) -> None:
    """Ends the process with status 1, and the traceback says where, whoever holds the interpreter."""
    status, said = _ended(f"{start}\nwith dogs.computing():\n    {hangs}")
    assert (status, "Timeout (" in said) == (1, True)


def test_another_batch_does_not_save_the_one_that_hangs() -> None:
    """Each has its own time: short ones beside it change nothing."""
    code = (
        "def short():\n    while True:\n        with dogs.computing(): pass\n        time.sleep(0.01)\n"
        "dogs.start()\nthreading.Thread(target=short, daemon=True).start()\n"
        f"with dogs.computing():\n    {_WAITS}"
    )
    assert _ended(code)[0] == 1


def test_only_batches_count() -> None:
    """Waiting between batches and long after them, for longer than one may be computed, is no hang."""
    wait = "time.sleep(1.5)"
    code = f"dogs.start()\n{wait}\nwith dogs.computing(): pass\n{wait}\nwith dogs.computing(): pass\ndogs.stop()\n{wait}"
    assert _ended(code) == (0, "")


@pytest.mark.stack
def test_a_slow_list_of_shards_is_no_hang(deploy: Callable[..., Deployment]) -> None:
    """The reader waits for AWS in its main loop for longer than a batch may take: it goes on loading, and drains."""
    more = {"HEADRACE_WORKER__HANG_SECONDS": "2", "HEADRACE_SEGMENT__MAX_IDLE_SECONDS": "0.3"}
    house = deploy(SLOW_SECONDS="4", **more).provision()
    reader = house.start("tests.consumers.slow_shards")
    for units in (20, 40):  # the second time while it waits for the second list
        house.produce(20, units - 20)
        done = wait_until(
            lambda units=units: house.heartbeat().get("units") == units or reader.poll() is not None,  # type: ignore[misc]
            PATIENCE,
        )
        assert done, house.log.read_text()
    reader.terminate()
    assert reader.wait(PATIENCE) == 0, house.log.read_text()
    report = house.audit()
    assert report.balanced, report.differences
