"""Port `FactSink` that keeps what it is told."""

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
