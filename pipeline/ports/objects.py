"""Objects: the archive's bucket."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class ObjectInfo(NamedTuple):
    """One listed object. `etag` is the store's own checksum, without quotes."""

    key: str
    size: int
    etag: str


class Tail(NamedTuple):
    """The last bytes of an object, and how many it has in all."""

    body: bytes
    size: int


class Objects(Protocol):
    """A bucket whose objects are written once and never changed.

    Called by the loader (from one thread per segment, several keys at once), by readers and by the audit.
    """

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        """Write `key` unless it exists.

        May be repeated any number of times, by anyone, at any later time.

        Returns:
            None when this call wrote the object, else the digest stored with the one that is there.

        Raises:
            Transient: not written; the same call may be repeated.
            OutcomeUnknown: nobody knows; repeating the call is the way to find out.
        """
        ...

    def get(self, key: str) -> bytes:
        """Return an object's bytes.

        Raises:
            NotFound: there is no such object.
            Transient: try again.
        """
        ...

    def tail(self, key: str, length: int) -> Tail:
        """Return an object's last `length` bytes, or all of it where it is shorter.

        Raises:
            NotFound: there is no such object.
            Transient: try again.
        """
        ...

    def part(self, key: str, start: int, length: int) -> bytes:
        """Return `length` bytes from `start` on; fewer where the object ends before.

        Raises:
            NotFound: there is no such object.
            Transient: try again.
        """
        ...

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object under a prefix, in key order; objects written meanwhile may be missing."""
        ...
