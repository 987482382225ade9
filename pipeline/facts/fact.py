"""What a fact is: one thing that happened, told by whoever did it."""

from pathlib import PurePath
from typing import ClassVar, Literal, Protocol

import msgspec

from pipeline.core.metric import Metric

Level = Literal["INFO", "WARN", "ERROR"]


class Fact(msgspec.Struct, frozen=True, tag_field="fact", tag=True):
    """One thing that happened.

    A sampled fact is told at every look: a page shows it at once, the log has a line now and then.
    """

    level: ClassVar[Level] = "INFO"
    metrics: ClassVar[tuple[Metric, ...]] = ()
    sampled: ClassVar[bool] = False


class FactSink(Protocol):
    """Where facts go. Called from any thread; never raises, never blocks for long."""

    def __call__(self, fact: Fact) -> None:
        """Take one fact."""
        ...


def place_of(exc: BaseException) -> str:
    """Return type and place of an unknown error, as facts tell of it; its message may quote a payload."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{PurePath(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
    return f"{type(exc).__name__} at {place}"
