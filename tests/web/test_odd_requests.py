"""Odd requests: whatever the parameters and bodies of a read are, the answer is one that the table of problems knows."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.web.asked import Asked
from pipeline.web.problems import PROBLEMS
from pipeline.web.routes import ROUTES
from tests.aws.backends import Aws, world
from tests.web.kit import DAY, Api, Town, settings_of

PATHS = [(one.method, one.plain_path) for one in ROUTES if "{" in one.path]
MAX_SORT_KEY_BYTES = 1_024  # of DynamoDB
HOSTILE = ["", "x" * 1_025, "x" * 9_000, "é" * 600, "\0", "_jobs", "#", "..", "20240310T120000Z-ffffff\n"]
READS = [one for one in ROUTES if one.path.startswith("/v1/") and one.method == "GET"]
TIMES = [
    "0001-01-01",
    "9999-12-31",
    "9999-12-31T23:59:59.999999Z",
    "0001-01-01T00:00:00+14:00",
    DAY,
    "2024-02-30",
    "T",
]
WORDS = [
    "door-1",
    "door.opened",
    "acme-e1",
    "1",
    "0",
    "true",
    "\0",
    "é" * 300,
    "..",
    "%2F",
    "_unknown",
    "day",
    "2024-03-10",
]
VALUES = st.sampled_from([*TIMES, *WORDS]) | st.text(max_size=30)


@cache
def _api() -> Api:
    return Api(Town(), settings_of(Path("/nonexistent")))


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_query_is_our_fault(data: st.DataObject) -> None:
    """A read is answered, or refused with a code of the table; never by an error of ours."""
    route = data.draw(st.sampled_from(READS))
    names = [one.name for one in route.parameters if isinstance(one, Asked)]
    params = data.draw(st.dictionaries(st.sampled_from([*names, "tenant", "x"]), VALUES, max_size=5))
    path = route.plain_path
    for one in route.parameters:
        if one.where == "path":
            segment = data.draw(
                st.sampled_from(["1", "door.opened", "0001-2", "2024-03-10", "acme-e1", "x" * 200, "٣"])
            )
            path = path.replace("{" + one.name + "}", segment)
    _answered(_api().call("GET", path, params=params))


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(
            ["entity", "type", "source", "from", "to", "limit", "dry_run", "granularity", "tenant_id"]
        ),
        VALUES | st.integers() | st.booleans() | st.none() | st.lists(st.integers(), max_size=2),
        max_size=6,
    )
)
def test_no_slice_is_our_fault(body: dict[str, Any]) -> None:
    """A replay is planned, or refused with a code of the table."""
    _answered(_api().call("POST", "/v1/replays", json=body | {"dry_run": True}))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The application over tables that refuse keys as AWS does: moto takes long ones."""
    home = tmp_path_factory.mktemp("home")
    with world("moto", home) as place:
        assert isinstance(place, Aws)
        town = Town(place, events=1)
        place.dynamodb.meta.events.register("provide-client-params.dynamodb.*", _refuse_long_keys)
        yield Api(town, settings_of(home))


def _refuse_long_keys(params: dict[str, Any], **_: Any) -> None:
    for value in params.get("Key", {}).values():
        if len(value.get("S", "").encode()) > MAX_SORT_KEY_BYTES:
            refusal = {"Error": {"Code": "ValidationException", "Message": "the key is too long"}}
            raise ClientError(refusal, "GetItem")  # type: ignore[arg-type]


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_no_path_is_our_fault(stored: Api, method: str, path: str) -> None:
    """Whatever stands where a name should: it is refused, or nothing has that name; no key is made that no table takes."""
    body = b"{}" if method == "PUT" else None
    for text in HOSTILE:
        asked = re.sub(r"{\w+}", quote(text, safe=""), path)
        answer = stored.call(method, asked, body=body, headers={"Content-Type": "application/json"})
        if "receipts" not in path:  # this process has no stream, and says so
            _answered(answer)
        assert answer.status_code != 500, answer.text


def _answered(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        document = msgspec.json.decode(answer.content)
        assert PROBLEMS[document["code"]].status == document["status"] == answer.status_code
        assert answer.headers["Content-Type"] == "application/problem+json"
