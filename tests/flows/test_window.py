"""The window of a lineage, read back from `ids/` by several readers."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

from pipeline.core.segment import Lineage
from pipeline.core.window import fingerprints
from pipeline.flows.window import DuplicateWindow, WindowLimits
from tests.fakes.objects import MemoryObjects
from tests.flows.deployment import Deployment

READERS = 3


class _Together(MemoryObjects):
    """A bucket whose reads wait until so many are under way."""

    def __init__(self, other: MemoryObjects) -> None:
        super().__init__()
        self.stored = other.stored
        self._barrier = Barrier(READERS, timeout=20)

    def get(self, key: str) -> bytes:
        """Read an object."""
        self._barrier.wait()
        return super().get(key)


def test_ids_are_read_back_several_at_once() -> None:
    """A worker that starts reads as many files at once as it has readers, and knows every id of all segments."""
    house = Deployment(max_rows=10)
    house.produce(80)
    house.load()
    lineage: Lineage = house.ledger.lineages()[0]
    segments = house.ledger.segments(lineage.short)
    assert len(segments) % READERS == 0
    house.objects = _Together(house.objects)
    with ThreadPoolExecutor(READERS) as pool:

        def each(call: Callable[[Any], None], items: Iterable[Any]) -> None:
            for _ in pool.map(call, items):
                pass

        window = DuplicateWindow(lineage, WindowLimits(), replace(house.write_ports(), each=each))
        ids = fingerprints([("acme", f"e{number}") for number in range(81)])
        assert window.flags(ids, house.clock.now_us()).tolist() == [True] * 80 + [False]
    assert house.facts.names()[-1] == "WindowLoaded"
