"""Ports that are called as the flows call them: again and again, until it works."""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from pipeline.facts import FactSink
from pipeline.flows.retrying import again
from tests.fakes.clock import SteppedClock

P = TypeVar("P")


def patient(port: P, facts: FactSink) -> P:
    """Wrap every public method of a port with `again`; listings are read to their end within one call."""
    for name in dir(type(port)):
        method = getattr(port, name) if callable(getattr(type(port), name)) else None
        if method is not None and not name.startswith("_"):
            setattr(port, name, _wrapped(name, method, facts))
    return port


def _wrapped(name: str, method: Callable[..., Any], facts: FactSink) -> Callable[..., Any]:
    clock = SteppedClock()

    def call(*arguments: Any, **named: Any) -> Any:
        def once() -> Any:
            found = method(*arguments, **named)
            return list(found) if isinstance(found, Iterator) else found

        found = again(name, once, clock=clock, facts=facts)
        return patient(found, facts) if name == "reader" else found

    return call
