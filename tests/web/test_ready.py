"""Readiness: each dependency's state and age, asked once for all who ask, and no place of any of them."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from falcon.testing import Result

from pipeline.config import load_settings
from pipeline.core.errors import ConfigProblem, StoreUnusable, Transient
from pipeline.flows.ready import KEPT_SECONDS, Kept, Readiness
from pipeline.web import ready
from pipeline.web.app import make_app
from pipeline.wiring.signing import signing_key
from tests.fakes.clock import SteppedClock
from tests.web.asking import client_of
from tests.web.kit import Api, KnownKeys, Town, settings_of


class Probe:
    """A dependency that counts how often it is asked."""

    def __init__(self) -> None:
        self.asked, self.error = 0, ""

    def __call__(self) -> None:
        """Answer, or fail."""
        self.asked += 1
        if self.error:
            raise Transient(self.error)


def _look(api: Api, readiness: Readiness) -> Result:
    app = make_app(replace(api.door, ready=readiness), KnownKeys({}))
    return client_of(app).simulate_get("/readyz")


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The application over a fresh town."""
    return Api(Town(events=1), settings_of(tmp_path))


def test_a_dependency_that_fails_is_named_and_nothing_else(api: Api) -> None:
    """503 while one of them fails; an open route tells neither addresses nor messages."""
    clock, good, bad = SteppedClock(), Probe(), Probe()
    readiness = Readiness({"tables": good, "control": bad}, clock)
    assert _look(api, readiness).json["status"] == "ready"
    bad.error = "http://10.0.0.7:5432 refused user headrace"
    clock.advance(KEPT_SECONDS + 1)
    answer = _look(api, readiness)
    assert answer.status_code == 503
    states = {one["name"]: one["state"] for one in answer.json["dependencies"]}
    assert states == {"tables": "ok", "control": "failing"}
    assert "10.0.0.7" not in answer.text
    assert "headrace" not in answer.text


def test_a_missing_table_is_named_with_the_next_step(api: Api) -> None:
    """By the name that every deployment has; the words of AWS, which name accounts, stay here."""

    def missing() -> None:
        raise StoreUnusable(
            "arn:aws:sts::123456789012 may not read prod-idempotency", ("idempotency", "limits")
        )

    answer = _look(api, Readiness({"tables": missing, "stream": Probe()}, SteppedClock()))
    tables, stream = answer.json["dependencies"]
    assert (answer.status_code, tables["state"], stream["state"]) == (503, "unusable", "ok")
    assert tables["next_step"].startswith("idempotency, limits: missing")
    assert "Upgrading in docs/operations.md" in tables["next_step"]
    assert stream["next_step"] is None
    assert "123456789012" not in answer.text


def test_many_ask_and_a_dependency_is_asked_once(api: Api) -> None:
    """Within a few seconds everybody is given what is known, with its age."""
    clock, probe = SteppedClock(), Probe()
    readiness = Readiness({"tables": probe}, clock)
    for _ in range(5):
        answer = _look(api, readiness)
    clock.advance(2)
    assert probe.asked == 1
    assert answer.json["dependencies"][0]["age_seconds"] == 0
    assert _look(api, readiness).json["dependencies"][0]["age_seconds"] == 2
    clock.advance(2)
    _look(api, readiness)
    assert probe.asked == 2


def test_what_is_kept_is_as_old_as_it_is(api: Api) -> None:
    """Its age is not that of the question; a new question that waits for its answer does not make it silent at once."""
    clock = SteppedClock()
    began, go = clock.monotonic(), threading.Event()
    go.set()

    def kept() -> Kept:
        go.wait(20)
        return Kept(began)

    readiness = Readiness({"issuer": kept}, clock)
    clock.advance(7_000)
    assert _look(api, readiness).json["dependencies"][0]["age_seconds"] == 7_000
    go.clear()
    clock.advance(KEPT_SECONDS + 1)
    asked = readiness.ask()
    assert [(one.state, one.age_seconds) for one in readiness.look()] == [("ok", 7_000 + KEPT_SECONDS + 1)]
    clock.advance(KEPT_SECONDS + 1)
    assert [one.state for one in readiness.look()] == ["silent"]
    go.set()
    asked[0].result(20)


def test_a_dependency_that_hangs_is_silent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer comes without it, and it is not asked again while it hangs."""
    monkeypatch.setattr(ready, "_PATIENCE_SECONDS", 0.05)
    gate, calls = threading.Event(), list[int]()

    def hang() -> None:
        calls.append(1)
        gate.wait(20)

    readiness = Readiness({"stream": hang}, SteppedClock())
    for _ in range(2):
        answer = _look(api, readiness)
        assert (answer.status_code, answer.json["dependencies"][0]["state"]) == (503, "silent")
    assert len(calls) == 1
    gate.set()


def test_one_machine_has_one_signing_key(tmp_path: Path) -> None:
    """Made once, for its owner's eyes; the setting goes before it; a file that is no key is refused."""
    settings = load_settings({"paths": {"home": tmp_path}, "aws": {"endpoint_url": "http://127.0.0.1:9"}})
    keys = {signing_key(settings) for _ in range(3)}
    file = tmp_path / "signing.key"
    assert len(keys) == 1
    assert len(keys.pop()) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert signing_key(settings_of(tmp_path, signing_key="s" * 40)) == signing_key(
        settings_of(tmp_path / "other", signing_key="s" * 40)
    )
    with pytest.raises(ConfigProblem, match=r"web\.signing_key is not set"):
        signing_key(settings_of(tmp_path))
    with pytest.raises(ConfigProblem, match="shorter than 32 characters"):
        signing_key(settings_of(tmp_path, signing_key="s" * 31))
    file.write_text("short")
    with pytest.raises(ConfigProblem, match=r"is no signing key; set `web.signing_key`, or remove the file"):
        signing_key(settings)
