"""Where the control store is. SQLAlchemy is imported only where there is one: a loader without it stays small."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from pipeline.config import Settings
from pipeline.laptop.home import Home
from pipeline.machine.files import PRIVATE_FILE, PRIVATE_FOLDER, disk_problems
from pipeline.ports.clock import Clock, SystemClock
from pipeline.wiring.secret_values import secret_text

if TYPE_CHECKING:
    from pipeline.store.control import SqlControl

Progress = Callable[[float, str], None]


def control(settings: Settings, clock: Clock | None = None, progress: Progress | None = None) -> "SqlControl":
    """Return the control store; a SQLite file that is missing is made.

    Args:
        settings: section `control`.
        clock: waits.
        progress: told every second while the server does not answer: how long already, and why.

    Raises:
        ConfigProblem: `control.url` is wrong, the server refuses us, or it was never migrated.
        Transient: it does not answer within `control.wait_seconds`.
    """
    from pipeline.store.open import Patience, open_control, unheard  # noqa: PLC0415 - see above

    replica = settings.control.replica_url
    return open_control(
        control_url(settings),
        clock or SystemClock(),
        replica_url=secret_text(settings, "control.replica_url", replica) if replica else None,
        patience=Patience(settings.control.wait_seconds, progress or unheard),
    )


def control_url(settings: Settings) -> str:
    """Return the URL of the control store; of the home's file after it was made sure that others cannot read it."""
    from pipeline.store.connect import sqlite_url  # noqa: PLC0415 - see above

    if settings.control.url is not None:
        return secret_text(settings, "control.url", settings.control.url)
    home = Home(settings.paths.home)
    with disk_problems(home.path):
        home.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        os.close(os.open(home.control, os.O_CREAT | os.O_RDWR, PRIVATE_FILE))
    return sqlite_url(home.control)


def has_control(settings: Settings) -> bool:
    """True when there is a control store: one is named, or somebody has made the file in the home."""
    return settings.control.url is not None or Home(settings.paths.home).control.exists()


def stored_control(settings: Settings, clock: Clock | None = None) -> Callable[[], "SqlControl | None"]:
    """Return a function that gives the control store, opened once; None as long as there is none."""
    found: list[SqlControl] = []

    def stored() -> "SqlControl | None":
        if not found and has_control(settings):
            found.append(control(settings, clock))
        return found[0] if found else None

    return stored
