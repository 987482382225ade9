"""The shorter way to routes without a parameter answers as the framework's own way does."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import Result

from pipeline.flows.request_ids import new_request_id
from tests.web.kit import Api, Town, settings_of

ASKED: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/healthz", {}),
    ("GET", "/v1/usage", {}),
    ("GET", "/v1/schemas", {}),
    ("GET", "/v1/lag", {"params": {"unknown": "1"}}),
    ("GET", "/v1/events", {"params": {"entity": "door-1", "from": "2026-01-01", "to": "2026-01-02"}}),
    ("POST", "/v1/events", {"body": "{}", "headers": {"Content-Type": "application/json"}}),
    ("POST", "/v1/events", {"body": "{}", "headers": {"Content-Type": "text/plain"}}),
    ("PUT", "/v1/events", {}),
    ("HEAD", "/healthz", {}),
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    """Return the application over a town."""
    home: Path = tmp_path_factory.mktemp("ways")
    return Api(Town(), settings_of(home))


def _seen(result: Result) -> tuple[int, set[str], Any]:
    """Return what is the same of two answers to one question."""
    body: Any = result.text
    if "json" in result.headers.get("content-type", ""):
        body = json.loads(result.text) if result.text else ""
        if isinstance(body, dict):
            body.pop("request_id", None)
    return result.status_code, {name.lower() for name in result.headers}, body


@pytest.mark.parametrize(("method", "path", "more"), ASKED)
def test_both_ways_answer_alike(api: Api, method: str, path: str, more: dict[str, Any]) -> None:
    """Status, names of headers, and body."""
    short = _seen(api.call(method, path, **more))
    direct, api.app.direct = api.app.direct, {}
    try:
        assert _seen(api.call(method, path, **more)) == short
    finally:
        api.app.direct = direct


def test_the_shorter_way_is_taken(api: Api) -> None:
    """Every route without a parameter has it, and no other."""
    assert ("POST", "/v1/events") in api.app.direct
    assert not [path for _, path in api.app.direct if "{" in path]


def test_ids_of_requests_are_new_in_a_child_too() -> None:
    """A process that forked does not give out the ids of its parent."""
    new_request_id()  # from here on some are held
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, new_request_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    ids = {new_request_id() for _ in range(2_000)}
    assert len(ids) == 2_000
    assert os.read(read, 64).decode() not in ids
