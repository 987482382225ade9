"""The catalogue over HTTP: what producers code against, and publishing by the checks of files."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.config import load_settings
from pipeline.core.caller import Scope
from pipeline.flows.admin import Admin
from pipeline.flows.publish import PublishLimits
from pipeline.wiring.publishing import publish_limits
from tests.web.kit import OTHER, OWN, Api, Town, caller_of, settings_of

GOOD = {"type": "object", "properties": {"n": {"type": "integer"}, "more": {"type": "number"}}}
V1, V2 = "/v1/schemas/gate.opened/1", "/v1/schemas/gate.opened/2"
FIRST = {"type": "object", "properties": {"n": {"type": "integer"}}}


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The application over a fresh town."""
    return Api(Town(events=1), settings_of(tmp_path))


@pytest.fixture
def owning(api: Api) -> Api:
    """The same, after a tenant has published the first version of a type."""
    assert api.call("PUT", V1, json=FIRST).status_code == 201
    return api


@pytest.mark.parametrize("scope", [Scope.READ, Scope.INGEST])
def test_producers_and_readers_see_the_catalogue(api: Api, scope: Scope) -> None:
    """Types with versions and columns, and each version's document as it was published."""
    caller = caller_of(OWN, {scope})
    types = api.get("/v1/schemas", caller).json["event_types"]
    assert [(one["event_type"], one["versions"]) for one in types] == [
        ("door.opened", [1]),
        ("meter.read", [1]),
    ]
    found = api.get("/v1/schemas/door.opened/1", caller)
    assert found.json == api.town.rules.schemas["door.opened"].versions[1].document
    assert "immutable" in found.headers["Cache-Control"]
    for path in (
        "/v1/schemas/door.opened/2",
        "/v1/schemas/door/1",
        "/v1/schemas/door.opened/01",
        "/v1/schemas/a/b",
    ):
        assert api.get(path, caller).status_code == 404
    assert api.call("PUT", V2, caller, json=GOOD).status_code == 403


def test_a_version_is_published_once(owning: Api) -> None:
    """New 201, the same again 200, another document 409; the act says who."""
    caller = caller_of(OWN, {Scope.ADMIN})
    answers = [
        owning.call("PUT", V2, caller, json=document) for document in (GOOD, GOOD, GOOD | {"title": "x"})
    ]
    assert [one.status_code for one in answers] == [201, 200, 409]
    act, _first = owning.control.acts()
    assert (act.actor, act.action, act.subject) == (
        caller.credential,
        "schema.publish",
        "schema:gate.opened/2",
    )
    assert [one.document for one in owning.control.publications()] == [FIRST, GOOD]
    assert owning.get(V2).json == GOOD


def test_what_is_published_is_checked_against_what_is_in_the_store(owning: Api) -> None:
    """A version that no loader has read yet binds the next one all the same."""
    assert owning.call("PUT", V2, json=GOOD).status_code == 201
    other = {"type": "object", "properties": {"more": {"type": "string"}}}
    answer = owning.call("PUT", "/v1/schemas/gate.opened/3", json=other)
    assert answer.status_code == 422
    assert "more" in answer.json["detail"]


BAD: list[tuple[str, Any, str]] = [
    (V2, {"type": "objct"}, "objct"),
    (V2, {"type": "array"}, "object"),
    (V2, {"type": "object", "properties": {"n": {"type": "string"}}}, "n"),
    (V2, {"type": "object", "properties": {"A": {}, "a": {}}}, "both be column"),
    (V2, {"type": "object", "properties": {"n": {"$ref": "#/$defs/missing"}}}, "schema"),
    (V2, {"type": "object", "properties": {"n": {"$ref": "http://127.0.0.1:9/x"}}}, "outside"),
    (V2, {"type": "object", "properties": {"n": {"type": "string", "pattern": "("}}}, "schema"),
    ("/v1/schemas/door-opened/1", GOOD, "table"),
    ("/v1/schemas/Door/1", GOOD, "must match"),
    ("/v1/schemas/gate.opened/0", GOOD, "version"),
    ("/v1/schemas/gate.opened/1e3", GOOD, "version"),
]


@pytest.mark.parametrize(("path", "document", "word"), BAD)
def test_what_files_may_not_say_is_refused(owning: Api, path: str, document: Any, word: str) -> None:
    """The same checks as of files, each with what is wrong; nothing is stored."""
    answer = owning.call("PUT", path, json=document)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid")
    assert word in answer.json["detail"]
    assert len(owning.control.publications()) == 1


def test_deep_and_large_documents_are_refused(owning: Api) -> None:
    """A document that nests without end, or is larger than any schema."""
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    assert owning.call("PUT", V2, json=deep).status_code == 422
    for size in (300_000, 66_000):
        large = owning.call("PUT", V2, json={"type": "object", "description": "x" * size})
        assert (large.status_code, large.json["code"]) == (413, "too_large")
    assert "65,536 are allowed (schemas.max_document_bytes)" in large.json["detail"]


def test_who_publishes_a_type_first_owns_it(owning: Api) -> None:
    """Another tenant's admin key, and any tenant's for the deployment's types, gets 403; the same document again is no change."""
    other, owner = caller_of(OTHER, {Scope.ADMIN}), caller_of(OWN, {Scope.ADMIN})
    refused = owning.call("PUT", V2, other, json=GOOD)
    assert (refused.status_code, refused.json["code"]) == (403, "forbidden")
    assert "another tenant's" in refused.json["detail"]
    assert OWN not in refused.json["detail"]
    assert owning.call("PUT", V1, other, json=FIRST).status_code == 200
    assert owning.call("PUT", V2, owner, json=GOOD).status_code == 201
    for caller in (owner, other):
        answer = owning.call("PUT", "/v1/schemas/door.opened/2", caller, json=GOOD)
        assert (answer.status_code, "the deployment's" in answer.json["detail"]) == (403, True)
    assert [(one.version, one.owner) for one in owning.control.publications()] == [(1, OWN), (2, OWN)]


def test_an_operator_publishes_for_anyone(owning: Api) -> None:
    """A further version of a tenant's type stays the tenant's; a new type is the deployment's."""
    admin = Admin(owning.control, owning.town.clock, "jo@desk", bytes)
    admin.publish(owning.door.rules(), "gate.opened", 2, GOOD)
    admin.publish(owning.door.rules(), "hall.opened", 1, FIRST)
    owners = {(one.event_type, one.version): one.owner for one in owning.control.publications()}
    assert owners == {("gate.opened", 1): OWN, ("gate.opened", 2): OWN, ("hall.opened", 1): ""}
    assert owning.call("PUT", "/v1/schemas/hall.opened/2", json=GOOD).status_code == 403
    assert owning.call("PUT", "/v1/schemas/gate.opened/3", json=GOOD).status_code == 201


@pytest.mark.parametrize(
    ("setting", "most", "paths"),
    [
        ("max_versions", 2, [V1, V2, "/v1/schemas/gate.opened/3"]),
        ("max_types_per_tenant", 2, [V1, "/v1/schemas/b.opened/1", "/v1/schemas/c.opened/1"]),
        ("max_published", 2, [V1, V2, "/v1/schemas/b.opened/1"]),
    ],
)
def test_as_many_are_published_as_may_be(tmp_path: Path, setting: str, most: int, paths: list[str]) -> None:
    """One more is refused with the setting that says so; what is there may be published again, and others go on."""
    settings = load_settings({"paths": {"home": tmp_path}, "schemas": {setting: most}}, environ={})
    api = Api(Town(events=1), settings)
    answers = [api.call("PUT", path, json=FIRST) for path in paths]
    assert [one.status_code for one in answers] == [201, 201, 409]
    assert f"schemas.{setting}" in answers[2].json["detail"]
    assert api.call("PUT", V1, json=FIRST).status_code == 200
    more = api.call("PUT", "/v1/schemas/other.opened/1", caller_of(OTHER, {Scope.ADMIN}), json=FIRST)
    assert more.status_code == (409 if setting == "max_published" else 201)


def test_a_store_that_is_down_is_told(api: Api) -> None:
    """Nobody knows what is published: come again."""
    api.control.down = True
    answer = api.call("PUT", V2, json=GOOD)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")


def test_limits_that_nobody_set_are_the_settings_own() -> None:
    """They stand in two places, as flows know no settings; this keeps them equal."""
    assert publish_limits(load_settings(environ={})) == PublishLimits()
