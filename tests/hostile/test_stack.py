"""The corpus through the real reader, over the emulator: stream, process, log, archive, audit."""

from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.kinesis import KinesisSink
from pipeline.machine.processes import wait_until
from pipeline.ports.stream import OutgoingRecord
from tests.aws.backends import ministack
from tests.consumers.test_reader import PATIENCE, Deployment
from tests.core.kit import event, wire
from tests.hostile.case import SCHEMA
from tests.hostile.corpus import CASES
from tests.hostile.test_loader import check, stored

pytestmark = pytest.mark.stack
_CALL_RECORDS = 100
_HASH_KEYS = ("1", str(2**127 + 1))  # one of each shard


def _send(house: Deployment, payloads: list[bytes]) -> list[str]:
    """Put plain records; return their sequence numbers."""
    client = make_client("kinesis", wiring.connection(house.settings), house.stores.meter)
    sink, numbers = KinesisSink(client, house.settings.stream.name), list[str]()
    records = [
        OutgoingRecord(payload, f"key-{number}", _HASH_KEYS[number // 2 % 2])
        for number, payload in enumerate(payloads)
    ]
    for first in range(0, len(records), _CALL_RECORDS):
        answers = sink.put(records[first : first + _CALL_RECORDS])
        assert [one.error for one in answers if one.error] == []
        numbers += [one.sequence_number for one in answers]
    return numbers


def test_the_corpus_through_the_reader(tmp_path: Path) -> None:
    """Every good event is archived, every bad one is in quarantine with its code and bytes, and no log line knows them."""
    with ministack(tmp_path / "stack") as endpoint:
        house = Deployment(
            tmp_path,
            endpoint,
            HEADRACE_SEGMENT__MAX_ROWS="500",
            HEADRACE_SEGMENT__MAX_IDLE_SECONDS="0.3",
            HEADRACE_METRICS__EMF="true",
        )
        (tmp_path / "schemas" / "door" / "1.json").write_bytes(wire(SCHEMA))
        house.provision()
        payloads = []
        for number, case in enumerate(CASES):
            payloads += [wire(event(event_id=f"good-{number}", source="zqgoodqz")), case.payload]
        numbers = _send(house, payloads)
        expected = len(CASES) + sum(len(case.expected) for case in CASES)
        reader = house.start()
        try:
            assert wait_until(lambda: house.heartbeat().get("units", 0) >= expected, 3 * PATIENCE)
            reader.terminate()
            assert reader.wait(PATIENCE) == 0
        finally:
            reader.kill()
            reader.wait()
        objects = house.stores.objects
        found = stored({info.key: objects.get(info.key) for info in objects.list("")})
        report = house.audit()
    for number, case in enumerate(CASES):
        [good_row] = found.pop(numbers[2 * number])
        assert good_row["event_id"] == f"good-{number}"
        check(case, found.pop(numbers[2 * number + 1]), bytes_whole=True)
    assert not found
    assert report.balanced, report.differences
    log = house.log.read_text()
    assert [case.name for case in CASES if case.marker in log] == []
    assert "zqgoodqz" not in log
    assert len(house.lines()) == log.count("\n")  # each line is one JSON object: nothing broke out of it
