"""One place sends a request again: within a budget of tries and seconds, with jitter, each told as a fact."""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import boto3
import pytest
from botocore.config import Config

from pipeline.aws.client import Connection, make_client
from pipeline.aws.errors import translated
from pipeline.aws.meter import Meter
from pipeline.aws.retries import Retries
from pipeline.config import load_settings
from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.core.receipt import Receipt
from pipeline.facts import CallRetried, Fact, readings
from pipeline.flows.retrying import again
from pipeline.wiring import sending_receipts
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.faults.plan import Fault, Script
from tests.faults.proxy import FaultProxy, fault_proxy
from tests.faults.wire import Answer, json_answer, json_error

THROTTLED = json_error("ProvisionedThroughputExceededException", 400)
BROKEN = json_error("InternalServerError", 500)
DONE = json_answer({"TableNames": []})


def _answering(*answers: Answer | None) -> AbstractContextManager[FaultProxy]:
    """Run a server that gives these answers, one after the other; None breaks the connection off."""
    faults = [
        Fault("scripted", forwards=False, answer=answer, cut_bytes=None if answer else 0)
        for answer in answers
    ]
    return fault_proxy(plan=Script(faults))


class _Steps:
    """A clock that goes on by so many seconds at every look."""

    def __init__(self, seconds: float) -> None:
        self._looks: Iterator[int] = itertools.count()
        self._seconds = seconds

    def __call__(self) -> float:
        """Return the time."""
        return next(self._looks) * self._seconds


def _told(facts: FactList) -> list[tuple[str, int, str]]:
    return [(one.call, one.attempt, one.error) for one in facts.told if isinstance(one, CallRetried)]


def _client(url: str, facts: FactList, *, attempts: int = 4, budget: float = 75.0, step: float = 0.0) -> Any:
    """Return a client that `Retries` watches; it never waits."""
    config = Config(retries={"mode": "standard", "total_max_attempts": 1})
    client = boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=config,
    )
    Retries(attempts, budget, facts, chance=lambda: 0.0, monotonic=_Steps(step)).watch(client)
    return client


def test_every_further_try_is_told_and_counted() -> None:
    """A request that was throttled and then broke off is sent until it works; both tries are facts, and metrics."""
    facts = FactList()
    with _answering(THROTTLED, BROKEN, None, DONE) as proxy:
        assert _client(proxy.url, facts).list_tables()["TableNames"] == []
    assert proxy.seen["dynamodb.ListTables"] == 4
    assert _told(facts) == [
        ("dynamodb.ListTables", 1, "ProvisionedThroughputExceededException"),
        ("dynamodb.ListTables", 2, "InternalServerError"),
        ("dynamodb.ListTables", 3, "ConnectionClosedError"),
    ]
    assert _counted(facts.told) == {"dynamodb.ListTables": 3}


def _counted(told: list[Fact]) -> dict[str, float]:
    """Add up the metric `retried_calls` by its label."""
    total: dict[str, float] = {}
    for one in (one for fact in told for one in readings(fact) if one.metric.name == "retried_calls"):
        total[one.key] = total.get(one.key, 0) + one.amount
    return total


@pytest.mark.parametrize(("answer", "kind"), [(THROTTLED, Transient), (BROKEN, OutcomeUnknown)])
def test_tries_do_not_multiply(answer: Answer, kind: type[Transient] | type[OutcomeUnknown]) -> None:
    """A request that was tried as often as it may be is not begun anew by whoever called."""
    facts, clock = FactList(), SteppedClock()
    with _answering(*[answer] * 99) as proxy:
        client = _client(proxy.url, facts, attempts=3)

        def call() -> None:
            with translated("list"):
                client.list_tables()

        with pytest.raises(kind) as caught:
            again("list", call, clock=clock, facts=facts)
    assert isinstance(caught.value, Transient | OutcomeUnknown)
    assert caught.value.spent
    assert proxy.seen["dynamodb.ListTables"] == 3
    assert len(_told(facts)) == 2


def test_no_try_begins_after_the_budget() -> None:
    """When its seconds are over a request is given up, however many tries are left."""
    facts = FactList()
    with _answering(*[THROTTLED] * 99) as proxy:
        client = _client(proxy.url, facts, attempts=99, budget=10.0, step=4.0)
        with pytest.raises(Transient), translated("list"):
            client.list_tables()
    assert proxy.seen["dynamodb.ListTables"] == 3  # it began at 0; failures were seen at 4, 8 and 12


def test_what_will_never_work_is_sent_once() -> None:
    """A refusal of a condition, or a wrong key, is no matter of trying."""
    facts = FactList()
    for code in ("ConditionalCheckFailedException", "ValidationException", "AccessDeniedException"):
        with _answering(*[json_error(code)] * 2) as proxy:
            client = _client(proxy.url, facts)
            with pytest.raises(client.exceptions.ClientError):
                client.list_tables()
            assert proxy.seen["dynamodb.ListTables"] == 1
    assert facts.told == []


def test_waits_have_jitter() -> None:
    """The wait is drawn anew for every try, between nothing and a limit that grows."""
    draws = iter([0.0, 1.0, 0.5])
    retries = Retries(9, 99.0, FactList(), chance=lambda: next(draws), monotonic=lambda: 0.0)
    context: dict[str, Any] = {"context": {}}
    retries._begin(context)

    class _Model:
        name = "ListTables"
        service_model = make_client(
            "dynamodb", Connection("us-east-1", "http://x", "x", "x"), Meter()
        ).meta.service_model

    class _Throttled:
        status_code = 400

    answer = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {}}
    found = [retries._decide((_Throttled(), answer), None, _Model(), number, context) for number in (1, 2, 3)]
    assert found == [0.0, 0.2, 0.2]


def test_a_receipt_does_not_hold_up_the_sending_thread() -> None:
    """Three tries and no more: what comes after waits its turn in the round, where events go to disk meanwhile."""
    facts = FactList()
    with _answering(*[BROKEN] * 12) as proxy:
        aws = {"endpoint_url": proxy.url, "access_key_id": "x", "secret_access_key": "x"}
        receipts = sending_receipts(load_settings({"aws": aws}, environ={}), facts)
        with pytest.raises((Transient, OutcomeUnknown)):
            receipts.put(Receipt("prod1", 0, "events", "1", 0, 0, ()))
    assert [attempt for _, attempt, _ in _told(facts)] == [1, 2]
