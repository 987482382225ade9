"""Where finished spans go."""

from typing import Protocol

from pipeline.core.tracing import FinishedSpan


class SpanSink(Protocol):
    """Takes the spans of a process. Called from any thread, rarely: of sampled requests and what they caused alone.

    Never raises and never blocks: what finds no room is dropped and counted. A span is told when its work is over, once or
    not at all: a process that dies in between has told nothing.
    """

    def __call__(self, span: FinishedSpan, /) -> None:
        """Take one span."""
        ...


def nowhere(span: FinishedSpan) -> None:
    """Drop a span: nobody wants traces."""
