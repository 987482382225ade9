"""The client's decisions without a network: any sequence of answers, losses and delays."""

import json
from array import array
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.retry import Backoff
from pipeline.sending.batches import Item
from pipeline.sending.fates import BatchFate
from pipeline.sending.http_answer import (
    Again,
    Answer,
    Barred,
    Lost,
    Outcome,
    Refuse,
    Renew,
    Split,
    retry_after,
    verdict,
)
from pipeline.sending.http_batch import HttpBatch, HttpOptions
from pipeline.sending.http_outbox import HttpOutbox

LANES, ENTITIES = 3, 7
KINDS = (
    "ok",
    "retry",
    "cut",
    "unsent",
    "lost",
    "500",
    "503",
    "429",
    "401",
    "413",
    "garbage",
    "404",
    "409",
)
OPTIONS = HttpOptions(
    max_batch_events=5,
    lanes=LANES,
    linger_seconds=0.1,
    retry_seconds=30.0,
    backoff=Backoff(base_seconds=0.2, cap_seconds=5),
)


def _problem(status: int, code: str = "", **headers: str) -> Answer:
    body = json.dumps({"code": code, "detail": "so it is"}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, {"content-type": "application/problem+json", **named}, body)


def _events(status: int, kinds: list[str]) -> Answer:
    events = [{"index": index, "status": kind, "code": "bad"} for index, kind in enumerate(kinds)]
    return Answer(
        status,
        {"content-type": "application/json"},
        json.dumps({"receipt": "r", "events": events}).encode(),
    )


class Server:
    """A server and its stream, which refuses every fourth event; keeps the answers of finished requests by their keys, as the real one does."""

    def __init__(self) -> None:
        self.stream: list[bytes] = []
        self.bodies: dict[str, list[bytes]] = {}
        self.finished: dict[str, Answer] = {}

    def answer(self, batch: HttpBatch, kind: str) -> Outcome:
        """Do something to a request, and say what comes back."""
        payloads = list(batch.payloads)
        assert self.bodies.setdefault(batch.key, payloads) == payloads, "one key, two bodies"
        count = len(payloads)
        simple: dict[str, Outcome] = {
            "unsent": Lost("refused", delivered=False),
            "429": _problem(429, "rate_limited", retry_after="2"),
            "503": _problem(503, "busy", retry_after="1"),
            "401": _problem(401, "unauthenticated"),
            "413": _problem(413, "too_large"),
            "404": _problem(404, "not_found"),
            "409": _problem(409, "in_flight", retry_after="1"),
        }
        if kind in simple:
            return simple[kind]
        if batch.key in self.finished:
            done = self.finished[batch.key]
            return Lost("reset") if kind in ("lost", "500", "garbage") else done
        bad = [json.loads(one)["id"] % 4 == 3 for one in payloads]  # the same verdict each time
        accepted = ["refused" if one else "accepted" for one in bad]
        if kind == "retry":  # the stream did not answer for the last of them: it may have some
            half = count // 2
            self._take(payloads[: half + (count - half) // 2])
            last = [one.replace("accepted", "retry") for one in accepted[half:]]
            return _events(207, accepted[:half] + last)
        if kind == "cut":  # half of it arrived in the stream, and the server died
            self._take(payloads[: count // 2])
            return Lost("reset")
        self._take(payloads)
        if kind == "500":
            return _problem(500, "internal")
        self.finished[batch.key] = _events(400 if all(bad) else 207 if any(bad) else 202, accepted)
        if kind == "lost":
            return Lost("no answer")
        if kind == "garbage":
            return Answer(202, {"content-type": "text/html"}, b"<html>")
        return self.finished[batch.key]

    def _take(self, payloads: list[bytes]) -> None:
        self.stream += [one for one in payloads if json.loads(one)["id"] % 4 != 3]


class World:
    """An outbox over such a server; time is stepped."""

    def __init__(self, options: HttpOptions = OPTIONS, *, renewable: bool = True) -> None:
        self.now, self.tickets, self.server = 0.0, 0, Server()
        self.fates: list[BatchFate] = []
        self.freed = 0
        keys = iter(range(10**6))
        self.outbox = HttpOutbox(
            options, self._settled, lambda: 0.5, lambda: f"key-{next(keys)}", renewable=renewable
        )
        self.on_way: list[HttpBatch] = []

    def put(self, entity: int) -> None:
        """Put one event."""
        payload = json.dumps({"entity": entity, "id": self.tickets}).encode()
        self.outbox.add(self.tickets, [Item(entity % LANES, payload)], self.now)
        self.tickets += 1

    def go(self, seconds: float) -> None:
        """Let time pass, and begin what is due."""
        self.now += seconds
        self.on_way += self.outbox.due(self.now)
        lanes = [batch.lane for batch in self.on_way]
        assert len(lanes) == len(set(lanes)), "two requests of one lane at once"

    def answer(self, kind: str, which: int = 0) -> None:
        """Answer one request that is on its way."""
        if self.on_way:
            batch = self.on_way.pop(which % len(self.on_way))
            self.outbox.answered(batch, self.server.answer(batch, kind), self.now, self.now)

    def finish(self) -> None:
        """Everything works from here on."""
        for _ in range(500):
            self.go(5.0)
            while self.on_way:
                self.answer("ok")
            if not self.outbox:
                return
        raise AssertionError("it never ends")

    def kinds(self) -> dict[int, str]:
        """Return each ticket's fate."""
        return {ticket: fate.kind for fate in self.fates for ticket in fate.tickets}

    def _settled(self, fate: BatchFate, cost_bytes: int) -> None:
        self.fates.append(fate)
        self.freed += cost_bytes


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, ENTITIES - 1)),
        st.tuples(st.just("go"), st.sampled_from([0.05, 0.2, 3.0, 20.0])),
        st.tuples(st.sampled_from(KINDS), st.integers(0, LANES)),
    ),
    max_size=120,
)


@settings(max_examples=1_000, deadline=None)
@given(STEPS)
def test_any_sequence_of_answers(steps: list[tuple[str, Any]]) -> None:
    """Each event has one fate, which is true; copies have the same bytes; an entity's first copies are in order."""
    world = World()
    for step, value in steps:
        if step == "put":
            world.put(value)
        elif step == "go":
            world.go(value)
        else:
            world.answer(step, value)
    world.finish()
    told = Counter(ticket for fate in world.fates for ticket in fate.tickets)
    assert told == Counter(range(world.tickets))
    assert world.freed == sum(len(one) + 128 for one in _all(world))
    stream = [json.loads(one) for one in dict.fromkeys(world.server.stream)]
    there = {one["id"] for one in stream}
    for ticket, kind in world.kinds().items():
        assert kind in ("acknowledged", "refused", "unknown")
        assert kind != "acknowledged" or ticket in there
        assert kind != "refused" or ticket not in there
    for entity in range(ENTITIES):
        ids = [one["id"] for one in stream if one["entity"] == entity]
        assert ids == sorted(ids)


def _all(world: World) -> list[bytes]:
    found = {payload for body in world.server.bodies.values() for payload in body}
    assert len(found) == world.tickets
    return list(found)


def test_the_budget_is_for_failures_and_not_for_429() -> None:
    """An hour of 429 ends in an acknowledgement; half a minute of lost answers in `unknown`, of refused connections in `refused`."""
    for kind, seconds, fate in (
        ("429", 3_600, "acknowledged"),
        ("lost", 60, "unknown"),
        ("unsent", 60, "refused"),
    ):
        world = World()
        world.put(1)
        for _ in range(seconds):
            world.go(1.0)
            world.answer(kind)
        if kind == "429":
            world.finish()
        assert world.kinds() == {0: fate}


def test_429_stops_every_lane() -> None:
    """The plan is the tenant's: while one request must wait, the others are not sent to be refused as well."""
    world = World()
    world.put(0)
    world.go(0.2)
    world.answer("429")
    world.put(1)
    world.go(0.5)
    assert world.on_way == []
    world.go(2.5)
    assert len(world.on_way) == 2


def test_401_renews_once() -> None:
    """A refused token is had anew once; refused again, the events are; a key is not asked for twice."""
    for renewable, attempts in ((True, 2), (False, 1)):
        world = World(renewable=renewable)
        world.put(0)
        for _ in range(attempts):
            world.go(0.2)
            assert len(world.on_way) == 1
            world.answer("401")
        assert world.kinds() == {0: "refused"}


def test_what_may_be_there_is_never_called_refused() -> None:
    """A request was lost, then the key was revoked: nobody knows about its events."""
    world = World(renewable=False)
    world.put(0)
    world.go(0.2)
    world.answer("lost")
    world.go(5.0)
    world.answer("401")
    assert world.kinds() == {0: "unknown"}


def test_a_part_of_what_may_be_there_may_be_there() -> None:
    """A request was lost, then halved, then refused: its halves are as unknown as it was."""
    world = World()
    for _ in range(2):
        world.put(0)
    world.go(0.2)
    for kind in ("lost", "413", "404", "404"):
        world.answer(kind)
        world.go(5.0)
    assert world.kinds() == {0: "unknown", 1: "unknown"}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (_problem(429, retry_after="7"), (Again, 7.0)),
        (_problem(429, retry_after="Sat, 21 Nov 2026 10:00:30 GMT"), (Again, 30.0)),
        (_problem(429, retry_after="Sat, 21 Nov 2020 10:00:30 GMT"), (Again, 0.0)),
        (_problem(429, retry_after="99999999999999999"), (Again, 3_600.0)),
        (_problem(429, retry_after="soon"), (Again, None)),
        (_problem(429, retry_after="-1"), (Again, None)),
        (_problem(503), (Again, None)),
        (_problem(408, "request_timeout"), (Again, None)),
        (_problem(409, "in_flight", retry_after="1"), (Again, 1.0)),
        (_problem(409, "conflict"), (Refuse, None)),
        (_problem(301, location="http://elsewhere"), (Refuse, None)),
        (_problem(400, "bad_request"), (Refuse, None)),
        (_problem(422, "key_reused"), (Refuse, None)),
        (_problem(401), (Renew, None)),
        (_problem(413), (Split, None)),
        (Barred("no token"), (Refuse, None)),
        (Answer(200, {}, b"{}"), (Again, None)),
        (Answer(202, {}, b"\xff\xfe"), (Again, None)),
        (Answer(202, {}, b"[" * 100_000), (Again, None)),
        (_events(202, ["accepted"]), (Again, None)),
        (_events(202, ["accepted"] * 3), (Again, None)),
        (
            Answer(202, {}, b'{"events":[{"index":0,"status":"accepted"},{"index":0,"status":"accepted"}]}'),
            (Again, None),
        ),
        (Answer(600, {}, b""), (Again, None)),
        (Answer(101, {}, b""), (Again, None)),
    ],
)
def test_what_an_answer_means(outcome: Outcome, expected: tuple[type, float | None]) -> None:
    """For a request of two events, at ten o'clock; answers that leave one of them out are none."""
    kind, wait = expected
    found = verdict(outcome, 2, 1_795_255_200.0)
    assert type(found) is kind
    if isinstance(found, Again):
        assert found.wait_seconds == wait


@given(st.text(max_size=60))
def test_any_retry_after(text: str) -> None:
    """Whatever a server writes there: nothing, or a time that is not too long."""
    found = retry_after(Answer(429, {"retry-after": text}, b""), 1_795_255_200.0)
    assert found is None or 0 <= found <= 3_600


def test_a_body_that_swells_goes_as_it_is() -> None:
    """Servers refuse a gzip that inflates to many times its size; a body stays the same over its attempts."""
    same = HttpBatch(0, "k", array("q", range(100)), [b'{"a":"%b"}' % (b"x" * 500)] * 100)
    assert same.body()[1] == "identity"
    mixed = HttpBatch(0, "k", array("q", range(100)), [b'{"a":"%032x"}' % (i * 7**40) for i in range(100)])
    assert mixed.body()[1] == "gzip"
    assert mixed.body() is mixed.body()
