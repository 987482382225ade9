"""Events of one request: what is sent, the same bytes under the same key each time, and how it is taken in two."""

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.errors import ConfigProblem
from pipeline.core.retry import Backoff
from pipeline.sending.batches import EVENT_OVERHEAD_BYTES

_GZIP_LEVEL = 1  # a third of level 6's time, for a tenth more bytes
_GZIP_WINDOW = 31  # zlib: write the header and trailer of gzip
_MAX_INFLATION = 20  # more is sent as it is: servers refuse what swells too much
_FEW_BYTES = 512  # not worth squeezing
_BACKOFF = Backoff(base_seconds=0.2, cap_seconds=20.0)


@dataclass(frozen=True)
class HttpOptions:
    """What a program chooses.

    Attributes:
        max_batch_events: in one request; halved by itself while the server says that it is too much.
        max_batch_bytes: the same in bytes, before gzip.
        linger_seconds: how long an event waits for others.
        lanes: requests on their way at once. An entity's events all go by one lane, one request after another.
        retry_seconds: how long a request is repeated that fails or is not answered; None: for ever. Waiting because of
            429 does not count.
        timeout_seconds: for one request, from its first byte to the answer's last.
        max_buffer_bytes: events in memory, payload and about 128 bytes each; then `put` waits.
        keep_fates: settled events whose fate is kept singly until a report, in a sixteenth as many batches; older ones
            are only counted.
        close_seconds: how long the end of a `with` block, and the end of the program, wait for the server.
        backoff: between two attempts where the server does not say when.
    """

    max_batch_events: int = 500
    max_batch_bytes: int = 512 * 1024
    linger_seconds: float = 0.1
    lanes: int = 4
    retry_seconds: float | None = 120.0
    timeout_seconds: float = 40.0  # the API's own deadline is 30 s
    max_buffer_bytes: int = 64 * 2**20
    keep_fates: int = 1_000_000
    close_seconds: float = 60.0
    backoff: Backoff = _BACKOFF

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigProblem: names the option.
        """
        least_one = ("max_batch_events", "max_batch_bytes", "lanes", "timeout_seconds", "max_buffer_bytes")
        for name in least_one:
            if not getattr(self, name) > 0:
                raise ConfigProblem(f"{name} {getattr(self, name)!r}: must be above 0")


class HttpBatch:
    """One request's events, and how it has fared.

    Attributes:
        key: the Idempotency-Key; it belongs to these bytes.
        tickets, payloads: of its events, in order.
        attempts: how often it was sent.
        failing_since: when the first of its failures in a row was; None while there is none.
        not_before: the earliest time of the next attempt.
        maybe: the stream may have its events.
        renewed: the credential was renewed for it, and it was not answered since.
    """

    __slots__ = (
        "_body",
        "attempts",
        "failing_since",
        "key",
        "lane",
        "maybe",
        "not_before",
        "payloads",
        "renewed",
        "tickets",
    )

    def __init__(self, lane: int, key: str, tickets: "array[int]", payloads: Sequence[bytes]) -> None:
        self.lane, self.key, self.tickets, self.payloads = lane, key, tickets, payloads
        self.attempts, self.not_before, self.failing_since = 0, 0.0, None
        self.maybe = self.renewed = False
        self._body: tuple[bytes, str] | None = None

    failing_since: float | None

    def __len__(self) -> int:
        return len(self.tickets)

    def __repr__(self) -> str:
        return f"HttpBatch({len(self)} events, {self.key})"

    def body(self) -> tuple[bytes, str]:
        """Return the body and its Content-Encoding."""
        if self._body is None:
            lines = b"\n".join(self.payloads) + b"\n"
            self._body = lines, "identity"
            if len(lines) > _FEW_BYTES:
                squeezed = _gzip(lines)
                if len(squeezed) * _MAX_INFLATION > len(lines):
                    self._body = squeezed, "gzip"
        return self._body

    def headers(self) -> dict[str, str]:
        """Return the headers that say what it is; the credential's come beside them."""
        return {
            "Content-Type": "application/x-ndjson",
            "Content-Encoding": self.body()[1],
            "Idempotency-Key": self.key,
        }

    def part(self, indexes: Sequence[int], key: str) -> "HttpBatch":
        """Return some of its events as a batch of their own, under a key of its own."""
        part = HttpBatch(
            self.lane,
            key,
            array("q", [self.tickets[index] for index in indexes]),
            [self.payloads[index] for index in indexes],
        )
        part.attempts, part.maybe = self.attempts, self.maybe
        part.failing_since, part.not_before = self.failing_since, self.not_before
        return part

    def cost_bytes(self, indexes: Sequence[int] | None = None) -> int:
        """Return what some of its events, or all, weigh in memory."""
        of = range(len(self)) if indexes is None else indexes
        return sum([len(self.payloads[index]) for index in of]) + EVENT_OVERHEAD_BYTES * len(of)


def _gzip(data: bytes) -> bytes:
    squeeze = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    return squeeze.compress(data) + squeeze.flush()
