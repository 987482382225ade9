"""A gap on a real stack: the receipt says lost, over HTTP and to a program, until a loader that was merely slow comes back."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.cli.settings import settings_with_stack
from pipeline.core.segment import Counts, Gap
from pipeline.machine.processes import wait_until
from pipeline.ports.ledger import PlanAnswer
from pipeline.producer import EventsLost, connect_http
from tests.e2e.test_front_door import EVENT, Deployment

pytestmark = [pytest.mark.stack, pytest.mark.slow]
_BEHIND_ALL = "9" * 56


@contextmanager
def _standing_still(deployment: Deployment) -> Iterator[None]:
    """Let the loader stand still."""
    pid = int(json.loads((deployment.home.path / "run" / "stack.json").read_text())["loader"]["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _spared() -> bool:
    """Ask no more often than the tenant's plan allows."""
    time.sleep(0.25)
    return True


def _swallow(deployment: Deployment) -> None:
    """Decide a gap behind what is committed, as a loader would that came too late for the rest."""
    ledger = wiring.archive(settings_with_stack(deployment.home.path)).ledger
    (newest, seal), *others = [
        opening for one in ledger.lineages() if (opening := ledger.open(one.short)).newest is not None
    ]
    assert not others, "the events of one entity lie in one shard"
    assert newest is not None
    gap = replace(
        newest,
        ordinal=newest.ordinal + 1,
        state="planned",
        start=newest.end,
        staging_key=f"{newest.staging_key}.gap",
        counts=Counts(0, 0, 0, 0, 0, 0, 0, 0),
        batches=(),
        seal_version=seal.version,
        gap=Gap(newest.max_arrival_us, newest.max_arrival_us + 10**15, _BEHIND_ALL),
    )
    assert ledger.plan(gap) is PlanAnswer.HOLDS
    assert ledger.commit(gap)


def test_what_a_gap_swallowed_is_lost_for_whoever_sent_it(tmp_path: Path) -> None:
    """Found in the ledger on DynamoDB by the API's own process; what was read before and what a slow loader held is queryable."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    deployment = Deployment(tmp_path)
    deployment.headrace("up", "--detach")
    try:
        key = deployment.key("noaa", "ingest", "read")
        wait = {"wait": "queryable", "timeout": "25"}
        with (
            deployment.client(key) as client,
            connect_http(str(client.base_url).rstrip("/"), api_key=key["key"]) as producer,
        ):

            def sent(name: str) -> str:
                answer = client.post("/v1/events", json=EVENT | {"event_id": name})
                return str(answer.json()["receipt"])

            def state(receipt: str) -> str:
                return str(client.get(f"/v1/receipts/{receipt}", params=wait).json()["state"])

            read = sent("before")
            assert state(read) == "queryable"
            with _standing_still(deployment):
                lost = sent("swallowed")
                ticket = producer.put_json(EVENT | {"event_id": "of a program"})
                report = producer.flush(20)
                _swallow(deployment)
                assert [state(read), state(lost)] == ["queryable", "lost"]
                with pytest.raises(EventsLost) as told:
                    producer.wait_queryable(report, 20)
                assert told.value.tickets == (ticket,)
                traced = client.get("/v1/events/swallowed", params={"receipt": lost})
                assert (traced.status_code, "`lost`" in traced.text) == (404, True)
            assert wait_until(lambda: _spared() and state(lost) == "queryable", 30)
            assert client.get("/v1/events/swallowed", params={"receipt": lost}).status_code == 200
            assert producer.wait_queryable(report, 20)
    finally:
        deployment.headrace("down", "--wipe")
