"""What a request pays for being known: credentials from memory, and an `Idempotency-Key`."""

import secrets

from pipeline.aws.idempotency import request_item, request_of
from pipeline.core.caller import Caller, Denied
from pipeline.core.credential import Presented
from pipeline.core.idempotency import StoredAnswer, fingerprint
from pipeline.flows.authenticate import Authenticator
from pipeline.flows.idempotency import Idempotency, Started
from pipeline.ports.clock import SystemClock
from tests.bench.figure import Figure, cpu_seconds, paired
from tests.fakes.clock import SteppedClock
from tests.fakes.idempotency import MemoryRequests
from tests.web.credentials import House

_BODY = secrets.token_bytes(435)  # one event
_ANSWER = StoredAnswer(202, {}, "application/json", b"x" * 200)


def credentials(count: int, rounds: int) -> list[Figure]:
    """A key and a token from memory, per request, against verifying the token's signature each time."""
    house = House()
    key, token = Presented("key", house.key()), Presented("token", house.token())
    for shown in (key, token):
        house.look_up(shown)

    def remembered(shown: Presented) -> None:
        for _ in range(count):
            if not isinstance(house.authenticator.resolved(shown), Caller):
                raise AssertionError("it is known")  # noqa: TRY004 - of the bench, not of a type

    def verified() -> None:
        for _ in range(count):
            house.authenticator._tokens.clear()
            house.authenticator.resolved(token)

    known, anew, ratio = paired(lambda: remembered(token), verified, rounds)
    by_key = cpu_seconds(lambda: remembered(key))
    return [
        Figure("a key, from memory", by_key / count * 1e6, "us/request"),
        Figure("a token, from memory", known / count * 1e6, "us/request"),
        Figure("a token, its signature verified", anew / count * 1e6, "us/request"),
        Figure("a token from memory / verified", ratio, "x", "<= 0.5"),
        Figure("a forged key", _forged(house.authenticator, count) / count * 1e6, "us/request"),
    ]


def _forged(authenticator: Authenticator, count: int) -> float:
    shown = Presented("key", "hr_test_0000000000000000_" + "0" * 33 + "_000000")

    def refused() -> None:
        for _ in range(count):
            try:
                authenticator.resolved(shown)
            except Denied as exc:
                del exc

    return cpu_seconds(refused)


def repeated_requests(count: int, rounds: int) -> list[Figure]:
    """An `Idempotency-Key`, without the table's own time: fingerprint, begin and complete; and DynamoDB's items of it."""
    flow = Idempotency(MemoryRequests(), SteppedClock(SystemClock().now_us()), lambda: "owner", 35)
    keys = iter(range(10**9))

    def whole() -> None:
        for _ in range(count):
            begun = flow.begin("acme", f"key {next(keys)}", fingerprint("POST", "/v1/events", "a", _BODY))
            if isinstance(begun, Started):
                begun.event_id(0)
                flow.complete(begun, _ANSWER)

    def plain() -> None:
        for _ in range(count):
            fingerprint("POST", "/v1/events", "a", _BODY)

    began = flow.begin("acme", "items", "")
    entry = began.entry if isinstance(began, Started) else None

    def items() -> None:
        for _ in range(count):
            if entry is not None:
                request_of(request_item(entry))

    spent, digest, ratio = paired(whole, plain, rounds)
    return [
        Figure("a request with a key, first time", spent / count * 1e6, "us/request"),
        Figure("its fingerprint alone", digest / count * 1e6, "us/request"),
        Figure("a request with a key / its fingerprint", ratio, "x"),
        Figure("its item, written and read", cpu_seconds(items) / count * 1e6, "us/request"),
        Figure(
            "a fingerprint of 10 MiB",
            cpu_seconds(lambda: fingerprint("", "", "", bytes(10 << 20))) * 1e3,
            "ms",
        ),
    ]
