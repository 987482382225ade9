"""`POST /v1/events` under an `Idempotency-Key`, over the real server: what is sent again is in the stream once."""

import gzip
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest

from pipeline.core.kpl import split
from pipeline.flows.idempotency import Idempotency
from pipeline.ports.clock import SystemClock
from tests.fakes.idempotency import MemoryRequests
from tests.web.doors import MemorySink, OpenGate, make_door
from tests.web.serving import event, lines, serving

FORMS: dict[str, tuple[str, Callable[[list[dict[str, Any]]], bytes]]] = {
    "array": ("application/json", orjson.dumps),
    "lines": ("application/x-ndjson", lambda events: lines(*events)),
}


class Table(MemoryRequests):
    """Whose answers may be lost, as by a crash just before them."""

    keeps = True

    def complete(self, entry: Any, answer: Any) -> bool:
        """Keep the answer, or not."""
        return self.keeps and super().complete(entry, answer)


@pytest.fixture
def talk() -> Iterator[tuple[httpx.Client, MemorySink, Table]]:
    """A client, the stream, the table."""
    sink, table, owners = MemorySink(), Table(), itertools.count()
    flow = Idempotency(table, SystemClock(), lambda: f"owner {next(owners)}", 35)
    with serving(replace(make_door(sink), idempotency=flow), OpenGate()) as served, served.client() as client:
        yield client, sink, table


def _in_stream(sink: MemorySink) -> list[dict[str, Any]]:
    return [orjson.loads(part) for record in sink.records for part in split(record.data)]


def _post(client: httpx.Client, body: bytes, kind: str, key: str = "k1", **more: str) -> httpx.Response:
    return client.post(
        "/v1/events", content=body, headers={"Content-Type": kind, "Idempotency-Key": key, **more}
    )


def _events() -> list[dict[str, Any]]:
    """Return two events without id and time."""
    return [event(entity_id=f"entity-{number}") for number in range(2)]


@pytest.mark.parametrize("form", FORMS)
def test_sent_again(talk: tuple[httpx.Client, MemorySink, Table], form: str) -> None:
    """The answer is the first one's, packed or not, and nothing more is in the stream."""
    client, sink, _ = talk
    kind, pack = FORMS[form]
    body = pack(_events())
    first, again = (_post(client, body, kind) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202), first.text
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert len(_in_stream(sink)) == 2


def test_the_answer_was_lost(talk: tuple[httpx.Client, MemorySink, Table]) -> None:
    """The stream had taken it: sent again, its events are the same, byte for byte, and the loader flags the copies."""
    client, sink, table = talk
    table.keeps = False
    kind, pack = FORMS["array"]
    first, again = (_post(client, pack(_events()), kind).json() for _ in range(2))
    assert [one["event_id"] for one in first["events"]] == [one["event_id"] for one in again["events"]]
    found = _in_stream(sink)
    assert len(found) == 4
    assert found[:2] == found[2:]


def test_another_body(talk: tuple[httpx.Client, MemorySink, Table]) -> None:
    """It is refused, and nothing of it is in the stream; under another key it is another request with other ids."""
    client, sink, _ = talk
    kind, pack = FORMS["array"]
    _post(client, pack(_events()), kind)
    assert _post(client, pack(_events()[:1]), kind).status_code == 422
    assert len(_in_stream(sink)) == 2
    _post(client, pack(_events()), kind, "k2")
    assert len({one["event_id"] for one in _in_stream(sink)}) == 4


def test_a_packed_body(talk: tuple[httpx.Client, MemorySink, Table]) -> None:
    """A gzip made anew has other bytes in its head: it is the same request."""
    client, sink, _ = talk
    body = orjson.dumps(_events())
    packed = [gzip.compress(body, mtime=moment) for moment in (1, 2)]
    kind = {"kind": "application/json", "Content-Encoding": "gzip"}
    assert packed[0] != packed[1]
    assert [_post(client, one, **kind).status_code for one in packed] == [202, 202]
    assert len(_in_stream(sink)) == 2


def test_all_refused(talk: tuple[httpx.Client, MemorySink, Table]) -> None:
    """The key is free again for the mended body."""
    client, _, table = talk
    kind, pack = FORMS["array"]
    assert _post(client, pack([{"no": "event"}]), kind).status_code == 400
    assert table.stored == {}
    assert _post(client, pack(_events()), kind).status_code == 202
