"""How long a process of the HTTP API takes at most to end in order, phase by phase: whoever stops one waits no less.

    asked to end ── requests are answered ── decisions are recorded ── events are sent ── accounts ── telemetry ── gone
                    deadline + ANSWERS       DECISIONS                 EVENTS             ACCOUNTS    TELEMETRY

A phase that meets nothing to wait for takes no time. One that runs out of its time is left as it is, and the next begins.
"""

ANSWERS_SECONDS = 5.0  # beyond the deadline of requests, for answers on their way
DECISIONS_SECONDS = 10.0  # decisions of the rate-limit service become events
EVENTS_SECONDS = 10.0  # what was taken goes to the stream, and the last receipt is written
ACCOUNTS_SECONDS = 5.0  # last uses of keys are noted, and again as long: leases of plans are given back
TELEMETRY_SECONDS = 10.0  # the last spans are sent; the page for Prometheus closes
_REST_SECONDS = 5.0  # a busy machine; several processes of one API ask each other to end


def longest_end_seconds(deadline_seconds: float) -> float:
    """Return how long an end in order takes at most, where requests may take `deadline_seconds`."""
    sending = DECISIONS_SECONDS + EVENTS_SECONDS
    return (
        deadline_seconds
        + ANSWERS_SECONDS
        + sending
        + 2 * ACCOUNTS_SECONDS
        + TELEMETRY_SECONDS
        + _REST_SECONDS
    )
