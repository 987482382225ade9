"""Port `FactSink` that keeps what it is told, and facts to tell."""

from typing import Any

import msgspec

from pipeline.core.histogram import SECONDS, Histogram
from pipeline.facts import Fact


class FactList:
    """Facts, in the order they were told."""

    def __init__(self) -> None:
        self.told: list[Fact] = []

    def __call__(self, fact: Fact) -> None:
        """Take one fact."""
        self.told.append(fact)

    def names(self) -> list[str]:
        """Return the names of the facts told."""
        return [type(fact).__name__ for fact in self.told]


_EXAMPLES: dict[Any, Any] = {
    str: "word",
    int: 7,
    float: 2.5,
    dict[str, int]: {"not_json": 3, "too_deep": 4},
    list[str]: ["0001"],
    Histogram: Histogram((3, 4, *[0] * (len(SECONDS) - 1)), 0.01),
}


def example(kind: type[Fact], **given: Any) -> Fact:
    """Return a fact of any kind: numbers are above zero, words are `word`."""
    fields = msgspec.structs.fields(kind)
    return kind(**{one.name: _EXAMPLES[one.type] for one in fields} | given)
