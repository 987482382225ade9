"""Secrets and payloads that are known to this test: no log, page, answer to somebody else or command shows one."""

import gzip
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.test_front_door import EVENT, Deployment
from tests.told import PAYLOAD as PLANTED
from tests.told import SECRET, keep

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.xdist_group("front_door")]

SIGNING_KEY, PASSWORD, PAYLOAD = (
    f"{word}{secrets.token_hex(16)}" for word in (f"{SECRET}signing", f"{SECRET}password", PLANTED)
)
_JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A stack with a known signing key, all of whose requests are logged."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    found = Deployment(tmp_path_factory.mktemp("home"))
    (found.home.path / "headrace.toml").write_text(f'[web]\nsigning_key = "{SIGNING_KEY}"\n')
    found.headrace("up", "--detach")
    try:
        yield found
    finally:
        keep(found.home.path)
        found.headrace("down", "--wipe")


def _bodies() -> Iterator[tuple[bytes, dict[str, str]]]:
    """Yield bodies that are taken, refused or unreadable; all of them hold the payload's mark."""
    good = EVENT | {"event_id": "leak-1", "source": PAYLOAD}
    data = EVENT["data"] | {"origin": PAYLOAD}  # type: ignore[operator]
    for one in (
        good,
        good | {"data": data},
        EVENT | {"data": {"note": PAYLOAD}},
        EVENT | {PAYLOAD: 1},
        EVENT | {"tenant_id": "faa", "data": data},
        EVENT | {"schema_version": 9, "data": data},
        [EVENT, {"x": PAYLOAD}],
    ):
        yield json.dumps(one).encode(), _JSON
    yield f'{{"data": "{PAYLOAD}'.encode(), _JSON
    yield b"\xff" + PAYLOAD.encode(), _JSON
    yield gzip.compress(PAYLOAD.encode())[:-3], _JSON | {"Content-Encoding": "gzip"}
    yield PAYLOAD.encode(), {"Content-Type": PAYLOAD}
    yield json.dumps(EVENT).encode(), _JSON | {"Idempotency-Key": PAYLOAD, "traceparent": PAYLOAD}


def _exercised(client: httpx.Client, key: str) -> list[httpx.Response]:
    """Send all of it, and ask for it in every way, with credentials that are good, odd and broken."""
    found = [client.post("/v1/events", content=body, headers=headers) for body, headers in _bodies()]
    paths = (
        "/v1/events",
        "/v1/counts",
        "/v1/usage",
        "/v1/lag",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
    )
    odd: list[dict[str, str]] = [
        {},
        {"X-API-Key": key[:-1] + "0"},
        {"Authorization": f"Bearer {key}"},
        {"Authorization": f"Basic {key}"},
        {"X-API-Key": key, "Cookie": key},
    ]
    for headers in odd:
        bare = httpx.Client(base_url=client.base_url, headers=headers)
        found += [bare.get(path, params={"entity": "IAH"} if path == "/v1/events" else {}) for path in paths]
        found += [bare.get(f"/v1/receipts/{key}"), bare.get("/v1/events", params={"cursor": SIGNING_KEY[:8]})]
        found += [bare.get(f"/v1/{key}"), bare.get("/v1/events", params={"key": key[-20:]})]
    return found


def test_no_secret_and_no_payload_is_told(deployment: Deployment) -> None:
    """Logs have neither, commands and answers no secret."""
    made = deployment.key("noaa", "ingest", "read", "replay", "admin")
    key = str(made["key"])
    with deployment.client(made) as client:
        answers = _exercised(client, key)
        receipts = [one.json().get("receipt") for one in answers if one.status_code in (202, 207)]
        assert receipts
        client.get(f"/v1/receipts/{receipts[0]}", params={"wait": "queryable", "timeout": "25"})
    assert {202, 207, 400, 401, 415}.issubset({one.status_code for one in answers})
    words = ("status", "config show", "keys list noaa", "acts", "tenants list", "audit")
    said = [_said(deployment, *one.split()) for one in words]
    deployment.headrace("down")
    secret = key.rsplit("_", 2)[1]
    assert len(secret) > 20
    assert (key in json.dumps(made), secret in key) == (True, True)
    logs = _logs(deployment.home.path)
    assert "api" in "".join(logs)
    for name, text in logs.items():
        for what, mark in {"signing key": SIGNING_KEY, "API key": secret, "payload": PAYLOAD}.items():
            assert mark not in text, f"{what} in {name}"
    for text in [*said, *(_told(one) for one in answers)]:
        assert SIGNING_KEY not in text
    for text in said:
        assert secret not in text
    for one in answers:
        assert secret not in _told(one).replace(key, "") or key in str(one.request.url)


def _said(deployment: Deployment, *words: str) -> str:
    try:
        return deployment.headrace(*words)
    except AssertionError as exc:  # a command that fails has said something, too
        return str(exc)


def _logs(home: Path) -> dict[str, str]:
    return {
        str(path.relative_to(home)): path.read_text(errors="replace")
        for path in home.rglob("*")
        if path.is_file()
        and (path.suffix in (".log", ".json", ".jsonl") or "log" in path.parts[-2])
        and "objects" not in path.parts
        and "state" not in path.parts
    }


def _told(answer: httpx.Response) -> str:
    return f"{answer.headers}{answer.text}"


@pytest.mark.parametrize(
    "words", [["tenants", "list"], ["serve", "--port", "0"], ["config", "show"], ["control", "state"]]
)
def test_the_password_of_the_control_store_is_never_told(tmp_path: Path, words: list[str]) -> None:
    """Neither when its server does not answer, nor when the settings are shown, nor in a traceback."""
    outside: dict[str, Any] = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))
    }
    url = f"postgresql://user:{PASSWORD}@127.0.0.1:1/control?sslmode=verify-full"
    inside = {
        "HEADRACE_CONTROL__URL": url,
        "HEADRACE_CONTROL__WAIT_SECONDS": "0",
        "HEADRACE_WEB__SIGNING_KEY": SIGNING_KEY,
    }
    command = [sys.executable, "-m", "pipeline.cli.main", *words, "--home", str(tmp_path)]
    done = subprocess.run(
        command, env=outside | inside, capture_output=True, text=True, check=False, timeout=60
    )
    assert PASSWORD not in done.stdout + done.stderr
    assert SIGNING_KEY not in done.stdout + done.stderr
    assert done.stdout + done.stderr
