"""Port `Objects` in memory."""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.core.errors import NotFound
from pipeline.ports.objects import ObjectInfo, Tail


class Stored(NamedTuple):
    """One object and the digest stored with it."""

    body: bytes
    digest: str


class MemoryObjects:
    """A bucket; `stored` may be looked at and, by tests that plant damage, changed."""

    def __init__(self) -> None:
        self.stored: dict[str, Stored] = {}

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        """Write `key` unless it exists; else return the digest that is there."""
        found = self.stored.get(key)
        if found is None:
            self.stored[key] = Stored(bytes(body), digest)
            return None
        return found.digest

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        if key not in self.stored:
            raise NotFound(f"no object {key}")
        return self.stored[key].body

    def tail(self, key: str, length: int) -> Tail:
        """Return an object's last bytes."""
        body = self.get(key)
        return Tail(body[max(len(body) - length, 0) :], len(body))

    def part(self, key: str, start: int, length: int) -> bytes:
        """Return bytes of an object."""
        return self.get(key)[start : start + length]

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object under a prefix, in key order."""
        for key in sorted(self.stored):
            if key.startswith(prefix):
                body, digest = self.stored[key]
                yield ObjectInfo(key, len(body), digest)
