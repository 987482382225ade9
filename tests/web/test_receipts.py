"""Receipts: signed, bound to tenant and stream, and as far along as the ledger says."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pipeline.core.arrival_receipt import ArrivalReceipt, read_receipt, receipt_text
from pipeline.core.errors import Crossed
from pipeline.core.segment import Counts, Gap, Position, Segment
from pipeline.core.signed import sign, unsign
from pipeline.facts import DamageFound
from pipeline.flows.follow import POLL_SECONDS, ArrivalReceipts, Follower, State
from pipeline.ports.clock import SystemClock
from pipeline.ports.ledger import Opening
from pipeline.web.app import make_app
from pipeline.web.routes import ROUTES
from pipeline.wiring.reads import acked_by
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.ledger import MemoryLedger
from tests.golden.compare import matches_golden
from tests.web.asking import client_of
from tests.web.doors import KEY, STREAM, MemorySink, make_door, web_settings
from tests.web.kit import OWN, Api, KnownKeys, Town, caller_of, settings_of
from tests.web.serving import event, serving

RECEIPT = ArrivalReceipt(5, (("shard-0", "49" + "0" * 54, 3),))
_COUNTS = Counts(1, 1, 1, 0, 0, 0, 1, 1)


def segment(lineage: str, ordinal: int, start: Position | None, end: Position) -> Segment:
    return Segment(lineage, ordinal, "planned", start, end, "key", _COUNTS, (), "rules", 0, 1, 1)


def text_of(receipt: ArrivalReceipt, stream: str) -> str:
    """Return the text of a receipt of the tenant acme."""
    text = receipt_text(receipt, KEY, stream, "acme")
    assert text is not None
    return text


def wide(shards: int) -> ArrivalReceipt:
    """Return the receipt of a request over many shards, several records in each."""
    chance = Random(shards)
    numbers = [f"4966{chance.randrange(10**52):052d}" for _ in range(2 * shards)]
    places = [(f"shardId-{at:012d}", number, at) for at, number in enumerate(numbers[::2])]
    return ArrivalReceipt(1_700_000_000_000_000, tuple(places), tuple(numbers[1::2]))


def test_a_receipt_over_many_shards_can_be_used() -> None:
    """Packed, that of a stream of 64 shards takes a few kB of a URL; one that no URL could hold is not given out."""
    for shards in (1, 9, 44, 64, 300):
        text = text_of(wide(shards), "stream")
        assert read_receipt(text, KEY, "stream", "acme") == wide(shards)
        assert read_receipt(text, KEY, "other", "acme") is None
        with pytest.raises(Crossed):
            read_receipt(text, KEY, "stream", "globex")
        assert len(text) < 6_000 or shards > 64
    assert receipt_text(wide(2_000), KEY, "stream", "acme") is None


def test_a_packed_receipt_is_read_for_ever() -> None:
    """Clients keep it: what was packed by this release is read by later ones, whatever packs there."""
    known = Path("tests/golden/receipt_text_packed.txt").read_text().strip()
    assert read_receipt(known, KEY, "stream", "acme") == wide(16)


def test_a_receipt_is_the_same_text_for_ever() -> None:
    """Clients keep it: a new release reads what an old one gave out."""
    text = text_of(RECEIPT, "stream")
    matches_golden("receipt_text.json", {"text": text})
    assert read_receipt(text, KEY, "stream", "acme") == RECEIPT


def test_a_receipt_of_several_records_knows_the_first() -> None:
    """Its text is the same for ever too; one without it means a single record."""
    many = ArrivalReceipt(5, (*RECEIPT.places, ("shard-1", "7", 0)), ("48" + "0" * 54, ""))
    text = text_of(many, "stream")
    matches_golden("receipt_text_of_many.json", {"text": text})
    assert read_receipt(text, KEY, "stream", "acme") == many
    found = [(one.first.sequence_number[:2], one.last.sequence_number[:2]) for one in many.arrived().values()]
    assert found == [("48", "49"), ("7", "7")]
    assert RECEIPT.arrived()["shard-0"].first == Position("49" + "0" * 54, 0)


def test_only_its_owner_can_use_a_receipt() -> None:
    """Another tenant, key or purpose, and any changed letter: no receipt at all."""
    text = text_of(RECEIPT, "mine")
    with pytest.raises(Crossed):
        read_receipt(text, KEY, "mine", "globex")
    assert read_receipt(text, KEY, "theirs", "acme") is None
    assert read_receipt(text, b"x" * 32, "mine", "acme") is None
    assert unsign(text, KEY, "mine") is None
    assert read_receipt(sign(b"\x92\x05\x90", KEY, "mine"), KEY, "mine", "acme") is None
    for at in range(len(text)):
        changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        assert read_receipt(changed, KEY, "mine", "acme") in (
            None,
            RECEIPT,
        )  # the last letter has bits that say nothing
    for odd in ("", "=", "é", "A", "A" * 100_000, "../x", "\0"):
        assert read_receipt(odd, KEY, "mine", "acme") is None


def at(*places: Position, first: str = "") -> ArrivalReceipt:
    """Return the receipt of events in so many shards."""
    found = tuple(
        (f"shardId-{n}", one.sequence_number, one.subsequence_number) for n, one in enumerate(places)
    )
    return ArrivalReceipt(5, found, (first,) if first else ())


def states(ledger: MemoryLedger, *places: Position) -> list[str]:
    follower = Follower(ledger, STREAM, SystemClock(), ThreadPoolExecutor(1))

    async def asked() -> list[str]:
        return [await follower.state(at(place)) for place in places]

    return [str(one) for one in asyncio.run(asked())]


def test_the_state_follows_the_ledger() -> None:
    """Received until a segment that covers it is decided, archived until that is committed, then queryable."""
    ledger, early, late = MemoryLedger(), Position("10", 2), Position("20", 0)
    assert states(ledger, early) == ["received"]
    lineage = ledger.register(*STREAM, "shardId-0", ()).short
    first = segment(lineage, 1, None, Position("10", 2))
    ledger.plan(first)
    assert states(ledger, early, Position("10", 3), late) == ["archived", "received", "received"]
    ledger.commit(first)
    ledger.plan(segment(lineage, 2, Position("10", 2), Position("20", 5)))
    assert states(ledger, early, late, Position("21", 0)) == ["queryable", "archived", "received"]


def test_a_shard_of_another_creation_of_the_stream_says_nothing() -> None:
    """The same shard id begins anew with the stream."""
    ledger = MemoryLedger()
    lineage = ledger.register(STREAM[0], "older", "shardId-0", ()).short
    old = segment(lineage, 1, None, Position("99", 0))
    ledger.plan(old)
    ledger.commit(old)
    assert states(ledger, Position("10", 0)) == ["received"]


def test_a_request_over_several_shards_is_as_far_as_the_slowest() -> None:
    """`queryable` means all of its events."""
    ledger = MemoryLedger()
    lineage = ledger.register(*STREAM, "shardId-0", ()).short
    done = segment(lineage, 1, None, Position("99", 0))
    ledger.plan(done)
    ledger.commit(done)
    follower = Follower(ledger, STREAM, SystemClock(), ThreadPoolExecutor(1))
    assert asyncio.run(follower.state(at(Position("10", 0), Position("10", 0)))) == "received"


class _Counting(MemoryLedger):
    def __init__(self) -> None:
        super().__init__()
        self.opened = 0

    def open(self, lineage: str) -> Opening:
        """Count, and open."""
        self.opened += 1
        return super().open(lineage)


def test_any_number_who_wait_ask_the_ledger_once() -> None:
    """A hundred receipts of one shard at one moment are one call."""
    ledger = _Counting()
    ledger.register(*STREAM, "shardId-0", ())
    follower = Follower(ledger, STREAM, SteppedClock(), ThreadPoolExecutor(4))

    async def many() -> None:
        await asyncio.gather(*(follower.state(at(Position("1", 0))) for _ in range(100)))

    asyncio.run(many())
    assert ledger.opened == 1


def test_who_waits_is_not_looked_at_until_something_changes() -> None:
    """Many receipts of one shard that wait through several looks at the ledger are judged at the beginning, and at a change."""
    ledger, judged = _Counting(), list[str]()
    lineage = ledger.register(*STREAM, "shardId-0", ()).short

    class Watched(Follower):
        async def _state(self, shard_id: str, *rest: Any) -> State:
            judged.append(shard_id)
            return await super()._state(shard_id, *rest)

    follower = Watched(ledger, STREAM, SystemClock(), ThreadPoolExecutor(2))

    async def many() -> list[State]:
        waiting = [
            asyncio.ensure_future(follower.wait(at(Position("1", 0)), "archived", 20)) for _ in range(200)
        ]
        while ledger.opened < 4:  # noqa: ASYNC110 - looks tell nobody
            await asyncio.sleep(POLL_SECONDS / 4)
        assert len(judged) == 200
        ledger.plan(segment(lineage, 1, None, Position("1", 0)))
        return await asyncio.gather(*waiting)

    assert set(asyncio.run(many())) == {"archived"}
    assert len(judged) == 400


def test_a_caller_reads_its_own_write() -> None:
    """The receipt of a 202 waits until the loader has committed what it speaks of; nobody else can use it."""
    sink, ledger = MemorySink(), MemoryLedger()
    with (
        serving(make_door(sink, ledger=ledger)) as served,
        served.client() as client,
        served.client("other") as other,
    ):
        receipt = client.post("/v1/events", json=event()).json()["receipt"]
        path = f"/v1/receipts/{receipt}"
        assert client.get(path).json()["state"] == "received"
        assert client.get(path, params={"wait": "queryable", "timeout": "0.1"}).json()["state"] == "received"
        lineage = ledger.register(*STREAM, "shardId-000000000000", ()).short
        committed = segment(lineage, 1, None, Position("9" * 56, 0))
        ledger.plan(committed)
        ledger.commit(committed)
        assert client.get(path, params={"wait": "queryable"}).json()["state"] == "queryable"
        refusals = [other.get(path), other.get("/v1/receipts/nonsense"), client.get("/v1/receipts/nonsense")]
        assert [one.status_code for one in refusals] == [404] * 3
        assert len({one.text.replace(one.json()["request_id"], "") for one in refusals}) == 1


def _swallow(ledger: MemoryLedger, before: str = "8" * 56) -> None:
    """Decide a gap at the beginning of the shard, in front of a record, and a segment from there to the end of all."""
    lineage = ledger.register(*STREAM, "shardId-000000000000", ()).short
    gap = replace(
        segment(lineage, 1, None, Position("0", 0)), end=None, gap=Gap(0, 1, before), state="committed"
    )
    ledger.rows[lineage, 1] = gap
    ledger.rows[lineage, 2] = replace(segment(lineage, 2, None, Position("9" * 56, 0)), state="committed")


def test_a_caller_is_told_that_its_write_is_lost() -> None:
    """Whether it waits or not; and what to do is said."""
    ledger = MemoryLedger()
    with serving(make_door(MemorySink(), ledger=ledger)) as served, served.client() as client:
        receipt = client.post("/v1/events", json=event()).json()["receipt"]
        _swallow(ledger)
        for wait in ({}, {"wait": "archived"}, {"wait": "queryable", "timeout": "20"}):
            answer = client.get(f"/v1/receipts/{receipt}", params=wait).json()
            assert answer["state"] == "lost"
            assert "the same event_id" in answer["message"]


def test_a_request_over_several_records_is_lost_by_its_first() -> None:
    """Its last record lies behind the gap; the receipt still knows of the one that lies in it."""
    ledger = MemoryLedger()
    _swallow(ledger, before=str(MemorySink.FIRST + 2))
    settings = web_settings(web={"linger_ms": 5})
    with serving(make_door(MemorySink(), settings, ledger=ledger)) as served, served.client() as client:
        many = [event(entity_id=f"door-{number}") for number in range(40)]  # in many slots: so many records
        answer = client.post("/v1/events", json=many)
        assert answer.json()["accepted"] == 40
        assert client.get(f"/v1/receipts/{answer.json()['receipt']}").json()["state"] == "lost"
        late = client.post("/v1/events", json=event()).json()["receipt"]
        assert client.get(f"/v1/receipts/{late}").json()["state"] == "queryable"


def test_a_trace_says_that_its_event_is_lost(tmp_path: Path) -> None:
    """By the receipt alone; an event that is merely on its way is told so."""
    ledger, api = MemoryLedger(), Api(Town(events=1), settings_of(tmp_path))
    receipts = ArrivalReceipts(KEY, STREAM, Follower(ledger, STREAM, SystemClock(), api.door.table_threads))
    api.reads.acked = acked_by(receipts.read, STREAM)
    known = caller_of(OWN)
    door = replace(api.door, receipts=receipts)
    text = receipts.text(OWN, ArrivalReceipt(5, (("shardId-000000000000", "12", 0),)))

    def asked() -> str:
        client = client_of(make_app(door, KnownKeys({known.credential: known}), ROUTES))
        answer = client.simulate_get(
            "/v1/events/nowhere", params={"receipt": text}, headers={"X-API-Key": known.credential}
        )
        assert answer.status_code == 404
        return str(answer.json["detail"])

    assert "may be on its way" in asked()
    _swallow(ledger)
    door = replace(
        door,
        receipts=replace(receipts, follower=Follower(ledger, STREAM, SystemClock(), api.door.table_threads)),
    )
    assert "its receipt says `lost`" in asked()


def test_damage_in_the_ledger_is_told_to_the_operator() -> None:
    """A row that is missing makes no receipt lost or queryable."""
    ledger = MemoryLedger()
    _swallow(ledger)
    del ledger.rows["0001", 1]
    door = make_door(MemorySink(), ledger=ledger)
    with serving(door) as served, served.client() as client:
        receipt = client.post("/v1/events", json=event()).json()["receipt"]
        answer = client.get(f"/v1/receipts/{receipt}")
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert isinstance(door.facts, FactList)
    [told] = [one for one in door.facts.told if isinstance(one, DamageFound)]
    assert "0001/1 is not in the ledger" in told.error


@pytest.mark.parametrize("query", ["wait=soon", "wait=queryable&timeout=x", "wait=queryable&timeout=-1"])
def test_a_wrong_question_is_refused(query: str) -> None:
    """422, and it says what may be asked."""
    door = make_door(MemorySink())
    assert door.receipts is not None
    text = door.receipts.text("demo", RECEIPT)
    with serving(door) as served, served.client() as client:
        assert client.get(f"/v1/receipts/{text}?{query}").json()["code"] == "invalid"
