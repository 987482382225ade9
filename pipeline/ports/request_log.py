"""Where lines about single requests go."""

from typing import Protocol

from pipeline.core.request_line import RequestLine


class RequestLog(Protocol):
    """Takes lines about requests; whoever calls has bounded how many. Never raises, never blocks for long."""

    def __call__(self, line: RequestLine, /) -> None:
        """Write one line."""
        ...


def unwritten(line: RequestLine) -> None:
    """Drop a line: nobody reads."""
