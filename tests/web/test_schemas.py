"""The catalogue over HTTP: what producers code against, and publishing by the checks of files."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.core.caller import Scope
from tests.web.kit import OWN, Api, Town, caller_of, settings_of

GOOD = {"type": "object", "properties": {"n": {"type": "integer"}, "more": {"type": "number"}}}
V2 = "/v1/schemas/door.opened/2"


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The application over a fresh town."""
    return Api(Town(events=1), settings_of(tmp_path))


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


def test_a_version_is_published_once(api: Api) -> None:
    """New 201, the same again 200, another document 409; the act says who."""
    caller = caller_of(OWN, {Scope.ADMIN})
    answers = [api.call("PUT", V2, caller, json=document) for document in (GOOD, GOOD, GOOD | {"title": "x"})]
    assert [one.status_code for one in answers] == [201, 200, 409]
    (act,) = api.control.acts()
    assert (act.actor, act.action, act.subject) == (
        caller.credential,
        "schema.publish",
        "schema:door.opened/2",
    )
    assert [one.document for one in api.control.publications()] == [GOOD]
    assert api.get(V2).json == GOOD


def test_what_is_published_is_checked_against_what_is_in_the_store(api: Api) -> None:
    """A version that no loader has read yet binds the next one all the same."""
    assert api.call("PUT", V2, json=GOOD).status_code == 201
    other = {"type": "object", "properties": {"more": {"type": "string"}}}
    answer = api.call("PUT", "/v1/schemas/door.opened/3", json=other)
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
    ("/v1/schemas/door.opened/0", GOOD, "version"),
    ("/v1/schemas/door.opened/1e3", GOOD, "version"),
]


@pytest.mark.parametrize(("path", "document", "word"), BAD)
def test_what_files_may_not_say_is_refused(api: Api, path: str, document: Any, word: str) -> None:
    """The same checks as of files, each with what is wrong; nothing is stored."""
    answer = api.call("PUT", path, json=document)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid")
    assert word in answer.json["detail"]
    assert not api.control.publications()


def test_deep_and_large_documents_are_refused(api: Api) -> None:
    """A document that nests without end, or is larger than any schema."""
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(200):
        deep = {"type": "object", "properties": {"a": deep}}
    assert api.call("PUT", V2, json=deep).status_code == 422
    large = {"type": "object", "description": "x" * 300_000}
    assert api.call("PUT", V2, json=large).status_code == 413


def test_a_store_that_is_down_is_told(api: Api) -> None:
    """Nobody knows what is published: come again."""
    api.control.down = True
    answer = api.call("PUT", V2, json=GOOD)
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
