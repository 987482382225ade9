"""What handlers can reach: the caller's own reader, and nothing behind it."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from pipeline import web
from pipeline.flows.tenant_reads import TenantReads
from pipeline.wiring.reads import Reads
from tests.web.kit import Api, Town, caller_of, settings_of

ROOM = Path(web.__file__).parent
FROM_WIRING = {"pipeline.wiring.front_door", "pipeline.wiring.reads", "pipeline.wiring.publishing"}


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
    stores = {
        type(getattr(api.town, name)) for name in ("ledger", "objects", "manifest", "index", "jobs", "days")
    }
    assert not stores & {type(getattr(api.door, one.name)) for one in fields(api.door)}


def test_a_reader_takes_no_tenant() -> None:
    """No method of the reader has a parameter that says whose: it is the caller's."""
    for name, method in vars(TenantReads).items():
        if callable(method) and not name.startswith("__"):
            assert "tenant" not in " ".join(method.__code__.co_varnames[: method.__code__.co_argcount]), name
