"""`GET /metrics`: the operator's token opens it, no tenant's credential does, and it is what the page of a port shows."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumers.telemetry import Telemetry
from pipeline.config import load_settings
from pipeline.core.errors import ConfigProblem
from pipeline.facts import TenantServed
from pipeline.wiring.front_door import MetricsPage, metrics_page
from tests.web.doors import make_door
from tests.web.serving import serving

_TOKEN = "0123456789abcdef" * 2


def _ask(page: MetricsPage | None, *authorizations: str) -> httpx.Response:
    headers = [("Authorization", one) for one in authorizations]
    with serving(replace(make_door(), metrics=page)) as served, served.client() as client:
        return client.get("/metrics", headers=headers)


def test_the_token_opens_what_was_told() -> None:
    """The page is Prometheus' text, with the facts that were told since."""
    with Telemetry(load_settings(environ={}), "api", page=None) as telemetry:
        page = telemetry.page()
        telemetry.fact(TenantServed("acme", 7, 9, 0, 0, 0))
        found = _ask(MetricsPage(_TOKEN, page), f"Bearer {_TOKEN}")
    assert (found.status_code, found.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    samples = [one for family in text_string_to_metric_families(found.text) for one in family.samples]
    assert ("acme", 7.0) in [(one.labels.get("tenant"), one.value) for one in samples]


@pytest.mark.parametrize(
    "authorizations",
    [(), ("Bearer",), (f"Bearer {_TOKEN[:-1]}",), (_TOKEN,), (f"Bearer {_TOKEN}", "Bearer other")],
    ids=["none", "empty", "short", "no scheme", "two"],
)
def test_nothing_else_opens_it(authorizations: tuple[str, ...]) -> None:
    """Whatever else is shown, a tenant's credential too, is answered 401 without a name in it."""
    found = _ask(MetricsPage(_TOKEN, lambda: b"acme"), *authorizations)
    assert (found.status_code, found.json()["code"]) == (401, "unauthenticated")
    assert "acme" not in found.text
    assert found.headers["www-authenticate"] == 'Bearer realm="metrics"'


def test_a_store_that_hangs_does_not_hold_the_page_up() -> None:
    """It needs none of the threads that calls to stores may fill."""
    full, let_go = ThreadPoolExecutor(1), threading.Event()
    full.submit(let_go.wait)
    door = make_door(control_threads=full, table_threads=full, metrics=MetricsPage(_TOKEN, lambda: b"acme"))
    try:
        with serving(door) as served, served.client() as client:
            found = client.get("/metrics", headers={"Authorization": f"Bearer {_TOKEN}"})
    finally:
        let_go.set()
    assert found.text == "acme"


def test_without_a_token_there_is_no_page() -> None:
    """The answer names the setting."""
    found = _ask(None, f"Bearer {_TOKEN}")
    assert (found.status_code, "web.metrics_token" in found.json()["detail"]) == (404, True)


def test_a_short_token_is_refused_at_the_start(tmp_path: Path) -> None:
    """A guessable token would be a page for everybody; the message shows none of it."""
    settings = load_settings(
        {"web": {"metrics_token": "letmein"}, "paths": {"home": str(tmp_path)}}, environ={}
    )
    with pytest.raises(ConfigProblem, match=r"web\.metrics_token: shorter than 32") as refused:
        metrics_page(settings, lambda: b"")
    assert "letmein" not in str(refused.value)
