"""One hostile input, and how those of the corpus are made."""

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.core.kit import DOOR, cloud_event, event, wire

ARCHIVED = "archived"
SCHEMA: dict[str, Any] = {
    **DOOR,
    "properties": {
        **DOOR["properties"],
        "ratio": {"type": "number"},
        "ok": {"type": "boolean"},
        "day": {"type": "string", "format": "date"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "place": {
            "type": "object",
            "properties": {"lat": {"type": "number"}},
            "additionalProperties": False,
        },
        "level": {"type": "string", "enum": ["low", "high"]},
        "free": {},
    },
}


class Case(NamedTuple):
    """A class of input, what becomes of its units in order, and the bytes; `marker` is in them, readable or packed."""

    kind: str
    expected: tuple[str, ...]
    payload: bytes
    marker: str

    @property
    def name(self) -> str:
        """Return what a test is called by."""
        return f"{self.kind}: {'+'.join(self.expected)}"


Make = Callable[[str], bytes]
Written = tuple[str, str, Make]


def made(area: str, written: list[Written]) -> list[Case]:
    """Return the cases of an area, each with a marker of its own; `a+b` are two units."""
    cases = []
    for number, (kind, expected, make) in enumerate(written):
        marker = f"zq{area}{number:03d}qz"
        cases.append(Case(f"{area}/{kind}", tuple(expected.split("+")), make(marker), marker))
    return cases


def ev(marker: str, **changes: Any) -> bytes:
    """Return an event that would be accepted, with some fields changed."""
    return wire(event(**{"event_id": marker, "source": f"source-{marker}", **changes}))


def data(raw: str, **changes: Any) -> Make:
    """Return what makes an event around the very text of its `data`."""
    return lambda m: ev(m, **{**changes, "data": 0}).replace(b'"data":0', b'"data":' + raw.encode())


def field(name: str, raw: str) -> Make:
    """Return what makes an event with the very text of one field's value; `@` is the marker."""
    return lambda m: ev(m, **{name: "HERE"}).replace(b'"HERE"', raw.replace("@", m).encode())


def without(name: str) -> Make:
    """Return what makes an event without a field."""
    return lambda m: wire(
        {key: value for key, value in event(entity_id=m, correlation_id=m).items() if key != name}
    )


def cloud(**changes: Any) -> Make:
    """Return what makes a CloudEvent with some attributes changed."""
    return lambda m: wire(cloud_event(**{"id": m, "source": f"source-{m}", **changes}))
