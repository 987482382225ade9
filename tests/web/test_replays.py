"""Replay over HTTP: a plan changes nothing, a job is frozen before it is answered and sent after, results by day."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from pipeline.core.caller import Scope
from pipeline.core.errors import StoreUnusable, Transient
from pipeline.core.replay_job import Job
from pipeline.facts import ReplaySendingFailed, StoreMissed
from pipeline.flows.tenant_reads import Stopped
from tests.aws.backends import Aws, Memory, World, world
from tests.fakes.replay import MemoryJobs, MemoryQueue
from tests.web.kit import DAY, OTHER, OWN, Api, Town, caller_of, settings_of

ENTITY = {"entity": "door-1"}
TYPE = {"type": "door.opened", "from": DAY, "to": DAY}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The application over a fresh town."""
    return Api(Town(), settings_of(tmp_path))


def _queue(api: Api) -> MemoryQueue:
    assert isinstance(api.town.queue, MemoryQueue)
    return api.town.queue


def _jobs(api: Api) -> MemoryJobs:
    assert isinstance(api.town.jobs, MemoryJobs)
    return api.town.jobs


def _sent(api: Api) -> None:
    """Wait until what was begun is sent."""
    api.reads.senders.shutdown()


def test_a_dry_run_changes_nothing(api: Api) -> None:
    """It says how many events, messages and chunks a job would have, and makes none."""
    before = dict(_jobs(api).jobs)
    answer = api.call("POST", "/v1/replays", json=ENTITY | {"dry_run": True})
    assert answer.status_code == 200
    assert (answer.json["events"], answer.json["messages"], answer.json["chunks"]) == (4, 2, 1)
    assert _jobs(api).jobs == before
    assert not _queue(api).waiting


@pytest.mark.parametrize("body", [ENTITY, TYPE])
def test_a_job_is_frozen_then_sent(api: Api, body: dict[str, Any]) -> None:
    """The answer names a job that is there already; its messages follow, and it is of the caller's tenant."""
    answer = api.call("POST", "/v1/replays", caller_of(OTHER, {Scope.REPLAY}), json=_of_other(body))
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/v1/replays/{answer.json['job']}"
    _sent(api)
    job = _jobs(api).get(answer.json["job"])
    assert (job.selection.tenant_id, job.state) == (OTHER, "sent")
    assert len(_queue(api).waiting) == job.messages == answer.json["messages"]
    shown = api.get(f"/v1/replays/{job.id}", caller_of(OTHER))
    assert (shown.status_code, shown.json["state"]) == (200, "sent")
    assert api.get(f"/v1/replays/{job.id}").status_code == 404


def _of_other(body: dict[str, Any]) -> dict[str, Any]:
    return body | ({"entity": "vault-1"} if "entity" in body else {})


def test_a_type_is_replayed_within_the_tenant(api: Api) -> None:
    """A job by type has the caller's rows alone, though the files hold both tenants'."""
    answer = api.call("POST", "/v1/replays", json=TYPE | {"dry_run": True})
    own = api.get("/v1/counts", type="door.opened").json["total"]["events"]
    assert answer.json["events"] == own == 5


def test_sending_goes_on(api: Api) -> None:
    """A job whose sender ended is sent by `resume`, by its owner only; one that is stale is not."""
    job = api.town.job_of[OWN]
    assert api.call("POST", f"/v1/replays/{job}/resume").status_code == 202
    _sent(api)
    assert _jobs(api).get(job).state == "sent"
    api.reads.senders = Api(api.town, api.settings).reads.senders
    _jobs(api).jobs[job] = msgspec.structs.replace(
        _jobs(api).get(job), state="stale", reason="an object is gone: key"
    )
    answer = api.call("POST", f"/v1/replays/{job}/resume")
    assert (answer.status_code, answer.json["code"]) == (409, "conflict")
    shown = api.get(f"/v1/replays/{job}").json
    assert shown["reason"] == "rows of it are gone"


@pytest.mark.parametrize("route", ["GET {}", "GET {}/results", "POST {}/resume"])
def test_what_is_no_id_of_a_job_is_not_found(tmp_path: Path, route: str) -> None:
    """No table is asked for it: of a key that DynamoDB does not take, too long or empty, it makes an error."""
    with world("moto", tmp_path) as place:
        assert isinstance(place, Aws)
        api, calls = Api(Town(_StoredJobs(place), events=2), settings_of(tmp_path)), list[str]()
        place.dynamodb.meta.events.register(
            "before-call.dynamodb", lambda **one: calls.append(one["model"].name)
        )
        for text in ("", "x" * 65, "x" * 1_025, "é" * 600, "chunk#1", "\0"):
            method, path = route.format(f"/v1/replays/{quote(text, safe='')}").split(" ")
            answer = api.call(method, path)
            assert (answer.status_code, answer.json["code"]) == (404, "not_found"), text
        assert not calls
        assert api.get("/v1/replays/20240310T120002Z-ffffff").status_code == 404
        assert calls == ["GetItem"]


class _StoredJobs(Memory):
    """Everything in memory, but jobs in the tables of a world."""

    def __init__(self, place: World) -> None:
        self.jobs = place.jobs  # type: ignore[method-assign]


def test_jobs_come_in_pages(api: Api) -> None:
    """Newest first, each once, the tenant's own."""
    for number in range(5):
        for tenant in (OWN, OTHER):
            job: Job = msgspec.structs.replace(
                _jobs(api).get(api.town.job_of[tenant]), id=f"2025-{number}-{tenant}"
            )
            _jobs(api).jobs[job.id] = job
    found, cursor = list[str](), dict[str, str]()
    for _ in range(9):
        page = api.call("GET", "/v1/replays", params={"limit": "2"} | cursor).json
        found += [one["job"] for one in page["replays"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == [*(f"2025-{number}-{OWN}" for number in range(4, -1, -1)), api.town.job_of[OWN]]


def test_results_are_those_of_the_job(api: Api) -> None:
    """By day, of the job's entity; a job about a type needs the entity named."""
    job = api.town.job_of[OWN]
    found = api.get(f"/v1/replays/{job}/results").json
    assert [(one["day"], one["job"]) for one in found["results"]] == [(DAY, job)]
    assert api.get(f"/v1/replays/{job}/results", entity="door-0").status_code == 422
    by_type = api.call("POST", "/v1/replays", json=TYPE).json["job"]
    assert api.get(f"/v1/replays/{by_type}/results").json["parameter"] == "entity"
    assert api.get(f"/v1/replays/{by_type}/results", entity="door-1").json["results"] == []
    _sent(api)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"entity": ""}, 422),
        ({"entity": "a", "colour": "red"}, 422),
        ({"entity": "a", "limit": 0}, 422),
        ({"entity": "a", "granularity": "file"}, 422),
        ({"entity": "a", "dry_run": "yes"}, 422),
        ({"type": "door.opened", "from": f"{DAY}T10:00:00Z"}, 422),
        ({"type": "Door"}, 422),
        ({"entity": "a", "from": "soon"}, 422),
        ({"entity": "nobody"}, 422),
        ([], 400),
    ],
)
def test_a_bad_slice_makes_no_job(api: Api, body: Any, status: int) -> None:
    """What cannot be a job is refused, and nothing is stored."""
    before = dict(_jobs(api).jobs)
    assert api.call("POST", "/v1/replays", json=body).status_code == status
    assert _jobs(api).jobs == before


def test_a_refused_member_is_told_what_is_allowed(api: Api) -> None:
    """An unknown name gets all names, a value that is none of a few gets those; other faults speak for themselves."""

    def refused(**body: object) -> dict[str, Any]:
        document: dict[str, Any] = api.call("POST", "/v1/replays", json=body).json
        return document

    names = "entity, type, source, from, to, limit, include_duplicates, granularity, dry_run"
    assert refused(typ="door.opened")["allowed"] == names
    assert refused(typ="door.opened")["detail"].endswith(f"unknown field `typ`; allowed: {names}")
    assert refused(entity="a", granularity="file")["allowed"] == "event, pointer"
    assert "allowed" not in refused(entity="a", limit="many")


def test_a_bad_body_is_refused(api: Api) -> None:
    """No JSON, another type, too large, too deep."""
    kind = {"Content-Type": "application/json"}
    for body, headers, status in (
        (b"{", kind, 400),
        (b"\xff", kind, 400),
        (b"[" * 9_000, kind, 400),
        (b"{}", {"Content-Type": "text/plain"}, 415),
        (b" " * 20_000, kind, 413),
    ):
        assert api.call("POST", "/v1/replays", body=body, headers=headers).status_code == status


def test_a_process_that_ends_leaves_a_job_that_can_be_resumed(api: Api) -> None:
    """Sending stops when the door closes, the job says so, and the next process sends the rest."""
    job = api.town.job_of[OWN]
    sender = api.reads.sender(caller_of(OWN))
    api.reads.close()
    with pytest.raises(Stopped):
        sender.send(job)
    assert _jobs(api).get(job).state == "sending"
    again = Api(api.town, api.settings)
    assert again.call("POST", f"/v1/replays/{job}/resume").status_code == 202
    _sent(again)
    assert _jobs(api).get(job).state == "sent"


def test_an_end_in_order_is_no_failed_sending(api: Api) -> None:
    """A job that is cut off by the end of its process has failed at nothing, and no operator is called."""
    api.reads._closing.set()
    job = api.call("POST", "/v1/replays", json=ENTITY).json["job"]
    _sent(api)
    assert _jobs(api).get(job).state == "sending"
    assert "ReplaySendingFailed" not in api.town.facts.names()


def _again(api: Api) -> Api:
    """Return another process over the same tables, after the one before died and its lock ran out."""
    api.town.clock.advance(60)
    return Api(api.town, api.settings)


def test_a_job_is_started_once_under_a_key(api: Api) -> None:
    """The same request again is answered with the same job; so it is when the first attempt died after freezing."""
    headers = {"Idempotency-Key": "replay-1"}
    before = len(_jobs(api).jobs)
    answers = [api.call("POST", "/v1/replays", json=ENTITY, headers=headers) for _ in range(2)]
    assert [one.status_code for one in answers] == [202, 202]
    assert answers[0].content == answers[1].content
    assert len(_jobs(api).jobs) == before + 1
    for (
        key,
        entry,
    ) in api.town.requests.stored.items():  # as if the process had died before it stored its answer
        api.town.requests.stored[key] = replace(entry, answer=None)
    third = _again(api).call("POST", "/v1/replays", json=ENTITY, headers=headers)
    assert (third.status_code, third.json["job"]) == (202, answers[0].json["job"])
    assert len(_jobs(api).jobs) == before + 1


def test_an_attempt_that_died_before_its_job_was_whole_leaves_the_next_a_new_name(api: Api) -> None:
    """Pointers of the first attempt and of the second never mix in one job."""
    headers, whole = {"Idempotency-Key": "replay-1"}, _jobs(api).parts
    before = set(_jobs(api).jobs)
    _jobs(api).parts = lambda *given: [*whole(*given)[:-1], _fails]  # type: ignore[method-assign]
    assert api.call("POST", "/v1/replays", json=ENTITY, headers=headers).status_code == 503
    half = {job for job, _ in _jobs(api).frozen} - before
    _jobs(api).parts = whole  # type: ignore[method-assign]
    again = _again(api).call("POST", "/v1/replays", json=ENTITY, headers=headers)
    assert again.status_code == 202
    assert len(half) == 1
    assert again.json["job"] not in half


def test_without_a_queue_no_job_is_made(api: Api) -> None:
    """503, to be sent again, and the operator is told; with the queue the same request makes one job. A plan needs no queue."""
    before, headers = dict(_jobs(api).jobs), {"Idempotency-Key": "replay-1"}
    _queue(api).there = False
    resume = f"/v1/replays/{api.town.job_of[OWN]}/resume"
    for answer in (
        api.call("POST", "/v1/replays", json=ENTITY),
        api.call("POST", "/v1/replays", json=ENTITY, headers=headers),
        api.call("POST", resume),
    ):
        assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
        assert answer.headers["Retry-After"]
    told = [one.route for one in api.town.facts.told if isinstance(one, StoreMissed)]
    assert told == ["POST /v1/replays", "POST /v1/replays", "POST /v1/replays/{id}/resume"]
    assert _jobs(api).jobs == before
    assert not _jobs(api).frozen.keys() - {(job, 1) for job in before}
    assert api.call("POST", "/v1/replays", json=ENTITY | {"dry_run": True}).status_code == 200
    _queue(api).there = True
    made = [api.call("POST", "/v1/replays", json=ENTITY, headers=headers) for _ in range(2)]
    assert [one.status_code for one in made] == [202, 202]
    assert len(_jobs(api).jobs) == len(before) + 1
    assert api.call("POST", resume).status_code == 202
    _sent(api)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (StoreUnusable("queue replay: there is none"), "StoreUnusable: queue replay: there is none"),
        (KeyError("of a payload"), "KeyError at "),
    ],
)
def test_a_sending_that_fails_is_told(
    api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    """Which job and why, once its starting is answered; of an error that nobody knows the place alone. It can be resumed."""

    def fail(_bodies: object) -> None:
        raise error

    monkeypatch.setattr(_queue(api), "send", fail)
    job = api.call("POST", "/v1/replays", json=ENTITY).json["job"]
    _sent(api)
    [fact] = [one for one in api.town.facts.told if isinstance(one, ReplaySendingFailed)]
    assert fact.job == job
    assert fact.error.startswith(told)
    assert "payload" not in fact.error
    monkeypatch.undo()
    again = Api(api.town, api.settings)
    assert again.call("POST", f"/v1/replays/{job}/resume").status_code == 202
    _sent(again)
    assert _jobs(api).get(job).state == "sent"


def _fails() -> None:
    raise Transient("the table does not answer")
