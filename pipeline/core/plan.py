"""What a tenant may use: plans are data, these three are delivered."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """One plan. A bucket refills at its rate and holds its burst; a month is a calendar month of UTC.

    Attributes:
        name: as a tenant's name is written.
        requests_per_second: refill of the bucket of requests.
        burst_requests: what that bucket holds.
        requests_per_month: the quota; never exceeded.
        events_per_second: refill of the bucket of events, which holds one second of them, or one largest batch.
        bytes_per_second: the same for bytes of events as they arrive, inflated.
        max_batch_events: events in one request.
    """

    name: str
    requests_per_second: int
    burst_requests: int
    requests_per_month: int
    events_per_second: int
    bytes_per_second: int
    max_batch_events: int


MIB = 2**20

DELIVERED = (
    Plan("basic", 10, 20, 100_000, 1_000, MIB, 500),
    Plan("standard", 100, 200, 1_000_000, 20_000, 16 * MIB, 2_000),
    Plan("premium", 1_000, 2_000, 10_000_000, 200_000, 128 * MIB, 5_000),
)
