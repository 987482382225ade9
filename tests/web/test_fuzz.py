"""Requests made up from `/openapi.json`: the real server never fails, and answers only what the document says.

`make fuzz` draws many more of them, with another seed each time: `make fuzz EXAMPLES=500`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from pipeline.web.openapi import openapi
from pipeline.web.problems import PROBLEMS
from pipeline.web.routes import ROUTES
from tests.web.kit import OWN
from tests.web.serving import Served, serving
from tests.web.whole import Whole

_DEEP = os.environ.get("FUZZ_EXAMPLES")
_EXAMPLES = int(_DEEP or 12)  # of each route and kind
_CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
_SETTINGS = settings(
    deadline=None,
    derandomize=_DEEP is None,
    database=None,
    max_examples=_EXAMPLES,
    phases=[Phase.explicit, Phase.generate] + ([Phase.shrink] if _DEEP else []),
    suppress_health_check=list(HealthCheck),
)


def _document() -> dict[str, Any]:
    """Return the document without `default`: each status that a route answers with is to be listed by itself."""
    found = openapi(ROUTES)
    for path in found["paths"].values():
        for operation in path.values():
            del operation["responses"]["default"]
            del operation["security"]  # a credential is added here, and none made up beside it
    return found


_LONGEST_URL = 60_000  # bytes: with its headers a longer one may be more than the 64 KiB of a head

OPERATIONS = {
    f"{found.ok().method.upper()} {found.ok().path}": found.ok()
    for found in schemathesis.openapi.from_dict(_document()).get_all_operations()
    if isinstance(found, Ok)
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """The API and its town."""
    return Whole(Path(tmp_path_factory.mktemp("fuzz")), deadline_seconds=5)


@pytest.fixture(scope="module")
def served(whole: Whole) -> Iterator[Served]:
    """The real server."""
    door = whole.door()
    with serving(door, whole.gate(door)) as found:
        yield found


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    """A client that keeps its connection."""
    with requests.Session() as found:
        yield found


def test_every_route_is_fuzzed() -> None:
    """No route is left out of the document."""
    assert set(OPERATIONS) == {f"{one.method} {one.plain_path}" for one in ROUTES}


def _drawn() -> Iterator[tuple[str, GenerationMode]]:
    for route in ROUTES:
        name = f"{route.method} {route.plain_path}"
        yield name, GenerationMode.POSITIVE
        if route.body or any(one.where != "path" for one in route.parameters):  # any text may stand in a path
            yield name, GenerationMode.NEGATIVE


@pytest.mark.parametrize(("name", "mode"), list(_drawn()))
def test_a_route_keeps_to_its_document(
    name: str, mode: GenerationMode, served: Served, whole: Whole, session: requests.Session
) -> None:
    """With a key of any scope: a documented status, its media type, headers and schema, and never a fault of ours."""
    operation = OPERATIONS[name]

    @_SETTINGS
    @given(st.data())
    def drawn(data: st.DataObject) -> None:
        scope = data.draw(st.sampled_from(["all", "all", "all", *sorted(whole.keys)]))
        known = data.draw(st.sampled_from([None, _known(whole, name)]))
        case = data.draw(operation.as_strategy(generation_mode=mode, path_parameters=known))
        headers = {"X-API-Key": whole.keys[scope]}
        answer = case.call(base_url=served.url, session=session, headers=headers, timeout=20)
        if answer.status_code == 431:  # the server's own, of a head that the API never sees
            assert len(answer.request.url or "") > _LONGEST_URL
            return
        case.validate_response(answer, checks=_CHECKS, headers=headers)
        _is_no_fault(answer.status_code, answer)

    drawn()


def _known(whole: Whole, name: str) -> dict[str, str] | None:
    """Return path parameters that name something, where the route has any."""
    things = {
        "/events/{id}": {"id": "acme-e1"},
        "/replays/{id}": {"id": whole.api.town.job_of[OWN]},
        "/policies/{name}": {"name": "door-logins"},
        "/schemas/{type}": {"type": "door.opened", "version": "1"},
    }
    return next((known for part, known in things.items() if part in name), None)


def _is_no_fault(status: int, answer: Any) -> None:
    assert status < 500 or status == 503, answer.text
    if status >= 400:
        document = answer.json()
        assert PROBLEMS[document["code"]].status == status
        assert document["request_id"] == answer.headers["x-request-id"][0]
