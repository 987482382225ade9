"""Marks of redriven units as quarantine, redrives and traces read them: once each, and only as they were written."""

from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from pipeline.core.errors import Corrupt
from pipeline.core.event import Limits
from pipeline.core.redriven import Wanted
from pipeline.core.sighting import Hint
from pipeline.flows.quarantine import parse_unit, refused, refused_at, tally
from pipeline.flows.trace import trace
from tests.core.kit import DOOR, rules_for
from tests.fakes.objects import Stored
from tests.flows.deployment import Deployment
from tests.flows.finding import trace_ports
from tests.flows.redriving import again, bare, dry, reading, send, strict_house
from tests.flows.test_redrive_apart import aggregate, lines


def _reads(house: Deployment, patch: pytest.MonkeyPatch, prefix: str) -> Counter[str]:
    """Count reads of objects under a prefix from here on."""
    read: Counter[str] = Counter()
    real = house.objects.get

    def get(key: str) -> bytes:
        read[key] += key.startswith(prefix)
        return real(key)

    patch.setattr(house.objects, "get", get)
    return read


def _house(redrives: int) -> Deployment:
    """Return a deployment of one day with so many quarantine files, each redriven by a segment of its own."""
    house = strict_house()
    for number in range(redrives):
        send(house, bare(number))
        again(house)
    return house


def _trace(house: Deployment) -> object:
    return trace("acme", "e1", Hint(), trace_ports(house))


_READERS: list[Callable[[Deployment], object]] = [
    again,
    dry,
    _trace,
    lambda house: tally(Wanted(), reading(house)),
    lambda house: list(refused(Wanted(), reading(house))),
    lambda house: refused_at(parse_unit("unit", "2024-03-10/0001-1/0"), reading(house)),
]
_NAMES = ["redrive", "dry run", "trace", "tally", "refused", "refused_at"]


@pytest.mark.parametrize("reader", _READERS, ids=_NAMES)
def test_each_file_is_read_once(
    reader: Callable[[Deployment], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many quarantine files and sightings a day has: its marks are read once."""
    house = _house(5)
    read = _reads(house, monkeypatch, "redriven/")
    reader(house)
    assert sorted(read[key] for key in house.objects.stored if key.startswith("redriven/")) == [1] * 5


def _altered(house: Deployment, key: str) -> None:
    body, digest = house.objects.stored[key]
    house.objects.stored[key] = Stored(body[:-9] + bytes([body[-9] ^ 1]) + body[-8:], digest)


def _garbage(house: Deployment, key: str) -> None:
    house.put_object(key, b"\0" * 64)


def _gone(house: Deployment, key: str) -> None:
    del house.objects.stored[key]


@pytest.mark.parametrize("damage", [_altered, _garbage, _gone])
@pytest.mark.parametrize("reader", _READERS, ids=_NAMES)
def test_damaged_marks_are_corrupt(
    reader: Callable[[Deployment], object], damage: Callable[[Deployment, str], None]
) -> None:
    """Whoever reads marks names the file and the next step: what was redriven must not be guessed."""
    house = _house(2)
    key = house.data_key("redriven/")
    damage(house, key)
    with pytest.raises(Corrupt, match=f"{key}.*headrace audit"):
        reader(house)


def test_a_row_has_the_mark_of_its_own_user_record() -> None:
    """Two user records of one Kinesis record came apart: each row's trace leads to the one it was in."""
    house = Deployment(max_rows=1_000)
    house.rules = rules_for(DOOR, limits=Limits(max_record_events=2))
    send(house, aggregate(lines(bare(1), bare(2), bare(3)), lines(bare(4), bare(5), bare(6))))
    again(house)
    follow = partial(trace, "acme", hint=Hint(), ports=trace_ports(house))
    for number in range(1, 7):
        rows = [one for one in follow(event_id=f"e{number}").found if one.sighting.outcome == "accepted"]
        assert [one.redriven.place.row for one in rows if one.redriven] == [(number - 1) // 3]
