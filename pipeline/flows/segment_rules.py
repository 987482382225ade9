"""What the rules of a segment knew: its tenants and event types, out of `rules/<digest>.json`."""

from collections.abc import Iterable

import msgspec

from pipeline.core.aggregate import Known
from pipeline.core.audit import Difference
from pipeline.core.errors import NotFound
from pipeline.core.keys import rules_key
from pipeline.core.segment import Segment
from pipeline.ports.objects import Objects


def read_known(objects: Objects, digest: str) -> Known | None:
    """Return the tenants and types of rules; None when the rules are gone or cannot be read."""
    try:
        document = msgspec.json.decode(objects.get(rules_key(digest)))
        return Known(frozenset(document["tenants"]), frozenset(document["schemas"]))
    except (NotFound, msgspec.MsgspecError, UnicodeDecodeError, LookupError, TypeError):
        return None


class SegmentRules:
    """Tenants and types by the rules' digest, read when they are asked for."""

    def __init__(self, objects: Objects, segments: Iterable[Segment]) -> None:
        self._objects = objects
        self._digests = {one.ref.name: one.rules_digest for one in segments}
        self._known: dict[str, Known | None] = {}

    def of(self, segment: str) -> Known | None:
        """Return what a segment's rules knew; None when the rules are gone, or the segment is unknown."""
        digest = self._digests.get(segment)
        if digest is not None and digest not in self._known:
            self._known[digest] = read_known(self._objects, digest)
        return self._known[digest] if digest is not None else None

    def differences(self) -> list[Difference]:
        """Name the rules that are gone."""
        message = "the rules that segments were judged by are gone or cannot be read"
        for name in self._digests:  # of those without files nobody asked
            self.of(name)
        gone = sorted(digest for digest, known in self._known.items() if known is None)
        return [Difference("rules_missing", rules_key(digest), message) for digest in gone]
