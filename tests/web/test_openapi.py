"""What describes the API is made of the table of routes, and of nothing else."""

import html
import re
from typing import Any

from pipeline.core.event import RefusalCode
from pipeline.web.openapi import openapi, reference
from pipeline.web.problems import PROBLEMS
from pipeline.web.refusal_words import MEANINGS
from pipeline.web.route import OPEN, Open
from pipeline.web.routes import ROUTES
from tests.web.doors import MemorySink, make_door
from tests.web.serving import serving

DOCUMENT = openapi(ROUTES)


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*map(_references, node.values()))
    return set().union(*map(_references, node)) if isinstance(node, list) else set()


def test_every_route_is_described() -> None:
    """Its method, path, answers, and whether it needs a credential."""
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.plain_path][route.method.lower()]
        assert {str(status) for status in route.answers} < set(operation["responses"])
        assert bool(operation["security"]) != isinstance(route.needs, Open)
        in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
        assert in_path == set(re.findall(r"{(\w+)}", route.plain_path))
    assert sum(map(len, DOCUMENT["paths"].values())) == len(ROUTES)


def test_the_fields_of_an_answer_are_described() -> None:
    """Request and trace of every one; what is left of the plan where it counts; when to come again, and what is a repeat."""
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            for answer in operation["responses"].values():
                assert {name for name, one in answer["headers"].items() if one.get("required")} == {
                    "X-Request-Id",
                    "X-Trace-Id",
                }
    sent = DOCUMENT["paths"]["/v1/events"]["post"]["responses"]
    of_plan = {"RateLimit", "RateLimit-Policy"}
    assert set(sent["202"]["headers"]) > {"Idempotent-Replayed"} | of_plan
    assert set(sent["429"]["headers"]) > {"Retry-After"} | of_plan
    assert "WWW-Authenticate" in sent["401"]["headers"]
    assert not of_plan & (set(sent["401"]["headers"]) | set(sent["403"]["headers"]))
    assert not of_plan & set(DOCUMENT["paths"]["/v1/usage"]["get"]["responses"]["200"]["headers"])


def test_every_reference_leads_somewhere() -> None:
    """A generator of clients finds each schema."""
    known = {f"#/components/schemas/{name}" for name in DOCUMENT["components"]["schemas"]}
    assert _references(DOCUMENT) <= known


def test_every_problem_has_its_place_on_the_page() -> None:
    """`type` of a problem is a link to it, and it says the next step."""
    page = reference(ROUTES)
    for code, kind in PROBLEMS.items():
        assert f'id="problem-{code.replace("_", "-")}"' in page
        assert kind.next_step.endswith(".")


def test_every_code_of_an_event_is_explained_on_the_page() -> None:
    """Its meaning is on the page itself: a caller has no other."""
    page = reference(ROUTES)
    assert set(MEANINGS) == set(RefusalCode)
    for code, meaning in MEANINGS.items():
        assert f"<code>{code}</code></dt><dd>{html.escape(meaning)}</dd>" in page


def test_the_page_needs_nothing_from_elsewhere() -> None:
    """It is read where there is no internet."""
    assert not re.search(r"(src|href)=.?(https?:)?//", reference(ROUTES))


def test_both_are_served_to_anybody() -> None:
    """Without a credential, like the health check."""
    with serving(make_door(MemorySink())) as served, served.client(None) as client:
        assert client.get("/openapi.json").json() == DOCUMENT
        assert client.get("/docs").headers["Content-Type"].startswith("text/html")
        assert client.get("/healthz").json() == {"status": "ok"}
        assert (client.head("/healthz").status_code, client.head("/healthz").content) == (200, b"")
        refused = client.get("/nothing/here")
        assert (refused.status_code, refused.json()["type"]) == (404, "/docs#problem-not-found")
        assert "/docs" in refused.json()["detail"]
        wrong = client.delete("/healthz")
        assert (wrong.status_code, "GET" in wrong.headers["Allow"]) == (405, True)
        assert "Allow" in wrong.json()["detail"]
    assert [route.path for route in ROUTES if route.needs is OPEN] == [
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
    ]
