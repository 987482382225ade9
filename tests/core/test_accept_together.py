"""Events that are judged together get the verdicts that each of them gets alone."""

import random
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.accept import Accepted, Acceptor, Refused
from pipeline.core.decode import Decoder
from pipeline.core.event import Limits
from pipeline.core.rules import make_rules
from pipeline.core.schema import parse_schema
from tests.core.kit import ARRIVED_US, ENVELOPE, event

_TIME: dict[str, Any] = {"type": "string", "format": "date-time"}
_PLACED = {
    "type": "object",
    "properties": {
        "at": _TIME,
        "until": _TIME | {"type": ["string", "null"]},
        "seen": {"type": "array", "items": _TIME},
        "door": {"type": "object", "properties": {"at": _TIME}, "additionalProperties": False},
        "n": {"type": "integer", "minimum": 0},
        "label": {"type": "string", "maxLength": 10},
    },
    "required": ["n"],
    "additionalProperties": False,
}
_OTHER = {"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": False}
_LOOSE = {"type": "object", "properties": {"x": {"type": "number"}}}  # outside what the fast path knows
RULES = make_rules(
    [
        parse_schema("placed", 1, _OTHER),
        parse_schema("placed", 2, _PLACED),
        parse_schema("other", 1, _OTHER),
        parse_schema("loose", 1, _LOOSE),
    ],
    ["acme", "globex"],
    Limits(max_event_bytes=700),
    ENVELOPE,
)
ACCEPTOR, DECODER = Acceptor(RULES), Decoder(RULES)
_NOON = "2024-03-10T11:00:00Z"
_FULL = {
    "n": 1,
    "at": _NOON,
    "until": None,
    "seen": [_NOON, "2024-03-10T11:00:00.5+01:00"],
    "door": {"at": _NOON},
}
GOOD = {
    "with times": event(event_type="placed", schema_version=2, data=_FULL),
    "without": event(event_type="placed", schema_version=2, data={"n": 2, "label": "a"}),
    "an older version": event(event_type="placed", data={"x": 1.5}),
    "another type": event(event_type="other", data={}),
    "correlated": event(event_type="other", data={"x": 1}, correlation_id="c"),
    "correlated with nothing": event(event_type="other", data={"x": 1}, correlation_id=None),
    "data first": dict(reversed(event(event_type="other", data={"x": 2}).items())),
}
BAD = {
    "of a loose version": event(event_type="loose", data={"x": 1, "y": 2}),
    "unknown type": event(event_type="window"),
    "another tenant's": event(event_type="other", data={}, tenant_id="globex"),
    "stamped": event(event_type="other", data={}, received_time=_NOON),
    "traced": event(event_type="other", data={}, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"),
    "in the future": event(event_type="other", data={}, event_time="2124-03-10T11:00:00Z"),
    "no time": event(event_type="other", data={}, event_time="2024-03-10 11:00:00Z"),
    "a NUL in its time": event(event_type="other", data={}, event_time="2024-03-10T11:00:00\0Z"),
    "a NUL in a time of its data": event(event_type="placed", schema_version=2, data=_FULL | {"at": "2024-03-10T11:00:00\0Z"}),
    "no time in data": event(event_type="placed", schema_version=2, data=_FULL | {"at": "2024-03-10T11:00:00+0100"}),
    "no time inside": event(event_type="placed", schema_version=2, data=_FULL | {"seen": [_NOON, "2024-03-10"]}),
    "no time in an object": event(event_type="placed", schema_version=2, data=_FULL | {"door": {"at": "noon"}}),
    "without an id": {name: value for name, value in event(event_type="other", data={}).items() if name != "event_id"},
    "data of another version": event(event_type="placed", data=_FULL),
    "too large": event(event_type="other", data={}, correlation_id="c" * 250, source="s" * 250),
}  # fmt: skip


def _together(units: list[bytes]) -> list[Accepted | Refused]:
    return ACCEPTOR.judge(units, "acme", ARRIVED_US, lambda _: "made")


def _alone(units: Sequence[bytes]) -> list[Accepted | Refused]:
    return [ACCEPTOR.judge_one(unit, "acme", ARRIVED_US, lambda _: "made") for unit in units]


def _is_quick(units: Sequence[bytes]) -> bool:
    return DECODER.all_quick(units, "acme", DECODER.not_after(ARRIVED_US)) is not None


def _wire(events: Sequence[dict[str, Any]]) -> list[bytes]:
    return [orjson.dumps(one) for one in events]


def test_good_events_of_all_kinds_go_together() -> None:
    """Types, versions and optional fields may be mixed: none of them sends the others the longer way."""
    units = _wire([*GOOD.values(), *GOOD.values()])
    assert _is_quick(units)
    found = _together(units)
    assert found == _alone(units)
    assert all(isinstance(one, Accepted) for one in found)


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("place", [0, 3, -1])
def test_one_bad_event_changes_nothing_for_the_others(bad: dict[str, Any], place: int) -> None:
    """Whatever is the matter with it, and wherever it stands."""
    events = list(GOOD.values())
    events[place] = bad
    units = _wire(events)
    assert not _is_quick(units) or bad is BAD["too large"]
    assert _together(units) == _alone(units)


@pytest.mark.parametrize("odd", [b"", b" ", b"{}", b"[]", b"null", b'"', b"{", b"\xff", b"{}{}", b"{}\n{}"])
def test_what_is_no_event_changes_nothing_for_the_others(odd: bytes) -> None:
    """Nor does what is no event at all."""
    units = [*_wire(list(GOOD.values())), odd]
    assert _together(units) == _alone(units)


@pytest.mark.parametrize("around", [(b" ", b""), (b"", b"\r"), (b"\t", b" ")])
def test_blanks_around_an_event_are_not_sent(around: tuple[bytes, bytes]) -> None:
    """As of one that came alone."""
    before, after = around
    units = [before + unit + after for unit in _wire(list(GOOD.values()))]
    assert _together(units) == _alone(units)


def test_nothing_is_judged_as_nothing() -> None:
    """A request may bring no event."""
    assert _together([]) == []


_BYTES = b'"{}[]:,\\ \n0123456789-+.eEtTzZ\0\xc3\xa9ustampdyvrl_'
_ESCAPES = (rb"\u0000", rb"\u0065", rb"\n", rb"\"", b'"event_id":"e",', b'"data":{},')


def mutated(chance: random.Random, units: Sequence[bytes]) -> list[bytes]:
    """Return events of which one or two have a few bytes changed, put in, taken out, or a part of another's."""
    found = list(units)
    for _ in range(chance.randrange(1, 3)):
        place = chance.randrange(len(found))
        unit = bytearray(found[place])
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(unit) + 1)
            kind = chance.randrange(5)
            if kind == 0:
                unit[at : at + 1] = bytes([chance.choice(_BYTES)])
            elif kind == 1:
                unit[at:at] = chance.choice((bytes([chance.choice(_BYTES)]), *_ESCAPES))
            elif kind == 2:
                del unit[at : at + chance.randrange(1, 8)]
            else:
                other = chance.choice(units)
                first = chance.randrange(len(other))
                unit[at : at + (kind == 3) * chance.randrange(40)] = other[
                    first : first + chance.randrange(40)
                ]
        found[place] = bytes(unit)
    return found


@given(st.integers(0, 2**32))
@settings(max_examples=400, deadline=None)
def test_damaged_events_are_judged_together_as_alone(seed: int) -> None:
    """Whatever is changed in them."""
    chance = random.Random(seed)
    units = mutated(chance, _wire(chance.choices(list(GOOD.values()), k=4)))
    assert _together(units) == _alone(units)
