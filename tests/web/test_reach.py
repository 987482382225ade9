"""What handlers can reach: the caller's own reader, and nothing behind it."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import fields
from inspect import signature
from pathlib import Path
from types import FunctionType

import pytest

from pipeline import web
from pipeline.flows.ratelimits import RateLimits, TenantRateLimits
from pipeline.flows.tenant_reads import TenantReads
from pipeline.wiring.reads import Reads
from tests.web.kit import Api, Town, caller_of, settings_of

ROOM = Path(web.__file__).parent
FROM_WIRING = {"pipeline.wiring.front_door", "pipeline.wiring.reads", "pipeline.wiring.publishing"}
STORES = (
    "ledger",
    "objects",
    "manifest",
    "index",
    "jobs",
    "days",
    "requests",
    "limits",
    "policies",
    "decisions",
)


def _trees() -> Iterator[tuple[Path, ast.AST]]:
    for path in sorted(ROOM.rglob("*.py")):
        yield path, ast.parse(path.read_text())


def test_handlers_know_few_modules_of_the_wiring() -> None:
    """Adapters cannot be made in the room of the API: what makes them is not imported there."""
    for path, tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline.wiring"):
                assert node.module in FROM_WIRING, path
            if isinstance(node, ast.ImportFrom) and node.module == "pipeline":
                assert "wiring" not in {one.name for one in node.names}, path


def test_handlers_look_into_nothing() -> None:
    """No handler reads a private attribute of another object: that is where the ports are."""
    for path, tree in _trees():
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
            ):
                assert isinstance(node.value, ast.Name), path
                assert node.value.id == "self", f"{path}:{node.lineno}"


def test_a_reader_shows_no_port(tmp_path: Path) -> None:
    """The door's reading and a caller's reader have no public attribute that is a store, or leads to one."""
    api = Api(Town(), settings_of(tmp_path))
    reader = api.reads.of(caller_of("acme"))
    for held, allowed in ((api.reads, {"key", "acked", "threads", "senders"}), (reader, set[str]())):
        assert {name for name in vars(held) if not name.startswith("_")} == allowed
    assert isinstance(reader, TenantReads)
    assert isinstance(api.reads, Reads)
    shown = {one.name: getattr(api.door, one.name) for one in fields(api.door)}
    stores = {type(getattr(api.town, name)) for name in STORES}
    assert not stores & {type(part) for part in shown.values()}
    for name, part in shown.items():
        public = {type(value) for key, value in _vars(part).items() if not key.startswith("_")}
        assert not stores & public, name


def _vars(part: object) -> dict[str, object]:
    return getattr(part, "__dict__", {})


def test_rate_limits_are_reached_by_a_caller_alone(tmp_path: Path) -> None:
    """The service shows one way, which takes a caller; what it gives shows no store."""
    service = Api(Town(), settings_of(tmp_path)).door.ratelimits
    assert isinstance(service, RateLimits)
    assert {name for name in dir(service) if not name.startswith("_")} == {"of"}
    assert _parameters(RateLimits.of) == ["self", "caller"]
    limits = service.of(caller_of("acme"))
    assert isinstance(limits, TenantRateLimits)
    assert all(callable(getattr(limits, name)) for name in dir(limits) if not name.startswith("_"))


@pytest.mark.parametrize("reader", [TenantReads, TenantRateLimits])
def test_a_reader_takes_no_tenant(reader: type) -> None:
    """No method of what a caller is given has a parameter that says whose: it is the caller's."""
    for name, method in vars(reader).items():
        if isinstance(method, FunctionType) and not name.startswith("__"):
            assert "tenant" not in " ".join(_parameters(method)), name


def test_handlers_of_rate_limits_name_no_tenant() -> None:
    """Whose policies and decisions are meant is said by the caller: the handlers never take its tenant in hand."""
    tree = ast.parse((ROOM / "ratelimit.py").read_text())
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not named & {"tenant_id", "tenant"}


def _parameters(method: Callable[..., object]) -> list[str]:
    return list(signature(method).parameters)
