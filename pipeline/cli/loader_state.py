"""Whether somebody loads what is in the stream, as far as it can be seen from here: the stack's record and the heartbeat."""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.config import Settings
from pipeline.laptop.home import Home
from pipeline.laptop.stack import find_stack
from pipeline.machine.processes import alive

FRESH_SECONDS = 10.0  # a reader writes twice a second; its main loop may wait for AWS meanwhile

# unknown: AWS, or another machine's stack, or a stack whose loaders are not its own and may write no heartbeat (KCL)
Word = Literal["running", "stalled", "not running", "unknown"]


@dataclass(frozen=True)
class LoaderState:
    """What is known of the loader; `next_step` is what to do while events wait."""

    word: Word
    next_step: str
    heartbeat_age_seconds: float | None = None


RUNNING = LoaderState("running", "a loader runs: audit again, or use --wait 60")


def loader_state(settings: Settings, now: float) -> LoaderState:
    """Look at the loader of what `settings` point to; `now` in Unix seconds."""
    home = Home(settings.paths.home)
    stack = find_stack(home).stack
    if stack is None or stack.endpoint_url != settings.aws.endpoint_url:
        return LoaderState(
            "unknown",
            "whether a loader runs cannot be seen from here: its metric lag_seconds tells, `headrace worker` starts one",
        )
    beat = heartbeat(home, now)
    age = beat["age_seconds"] if beat else None
    if stack.has_loader and not alive(stack.loader):
        return LoaderState(
            "not running", "the stack's loader is not running: run `headrace up`, then audit again", age
        )
    if age is not None and age < FRESH_SECONDS:
        return replace(RUNNING, heartbeat_age_seconds=age)
    if stack.has_loader:
        return LoaderState(
            "stalled",
            f"the loader lives, but {'gives no heartbeat' if age is None else f'its last heartbeat is {age:,.0f} s old'}: "
            f"look at {home.loader_log}, or run `headrace down`, then `headrace up`",
            age,
        )
    return LoaderState(
        "unknown",
        "the stack has no loader of its own, and no reader gives a heartbeat: `headrace worker` starts one, unless "
        "`headrace worker --kcl` runs",
        age,
    )


def knows_rules(settings: Settings, digest: str, now: float) -> bool:
    """True when no loader that can be seen from here judges by other rules than these: none needs a restart."""
    word = loader_state(settings, now).word
    if word in ("running", "stalled"):
        return (heartbeat(Home(settings.paths.home), now) or {}).get("rules") == digest
    return word == "not running"


def heartbeat(home: Home, now: float) -> dict[str, Any] | None:
    """Read what the loader last wrote, with its age; None when there is nothing readable."""
    try:
        beat = json.loads(home.heartbeat.read_bytes())
        age = now - home.heartbeat.stat().st_mtime
    except (OSError, ValueError):
        return None
    return {**beat, "age_seconds": round(age, 1)} if isinstance(beat, dict) else None
