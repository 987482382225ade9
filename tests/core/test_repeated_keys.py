"""A key twice in an envelope: libraries keep the last, so the fast path must see that there were two."""

import json
from typing import Any

import pytest

from pipeline.core.decode import Decoder
from pipeline.core.event import Refusal
from tests.core.kit import ARRIVED_US, DOOR, decode, event, rules_for, wire

RULES = rules_for(DOOR)
OPTIONAL = {
    "received_time": "2024-03-10T11:00:01Z",
    "correlation_id": "c",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": event(),
    "with optional keys": event(**OPTIONAL),
    "without a correlation": event(correlation_id=None),
    "data first": dict(reversed(event().items())),
    "data in the middle": event(**{"data": {"n": 1}, **OPTIONAL}),
    "received alone": event(received_time=OPTIONAL["received_time"]),
    "traced alone": event(traceparent=OPTIONAL["traceparent"]),
}
CASES = [
    pytest.param(
        shape, name, in_front, escaped, id=f"{title}: {name}{' in front' * in_front}{' escaped' * escaped}"
    )
    for title, shape in SHAPES.items()
    for name in shape
    for in_front in (False, True)
    for escaped in (False, True)
]


def _quick(payload: bytes) -> object:
    return Decoder(RULES).quick(payload, Decoder(RULES).not_after(ARRIVED_US))


def _together(payload: bytes) -> object:
    return Decoder(RULES).all_quick([wire(event()), payload], "acme", Decoder(RULES).not_after(ARRIVED_US))


@pytest.mark.parametrize(("shape", "name", "in_front", "escaped"), CASES)
def test_a_key_twice_is_refused(shape: dict[str, Any], name: str, *, in_front: bool, escaped: bool) -> None:
    """Whichever key, wherever it stands, with the very same value, and written with an escape."""
    members = [f"{json.dumps(key)}:{json.dumps(value)}" for key, value in shape.items()]
    key = f"\\u{ord(name[0]):04x}{name[1:]}" if escaped else name
    again = f'"{key}":{json.dumps(shape[name])}'
    payload = ("{" + ",".join([again, *members] if in_front else [*members, again]) + "}").encode()
    assert _quick(payload) is None
    assert _together(payload) is None
    found = decode(payload, RULES)
    assert isinstance(found, Refusal), found
    assert (found.code, found.pointer) == ("duplicate_key", f"/{name}")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_without_it_the_fast_path_takes_the_same_event(shape: dict[str, Any]) -> None:
    """It is the second key alone that is seen."""
    assert _quick(wire(shape)) is not None
    is_stamped = not {"received_time", "traceparent"}.isdisjoint(shape)
    assert (_together(wire(shape)) is None) is is_stamped
