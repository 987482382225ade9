"""A schema refuses flights without a tail number, is fixed, and the flights go through: with the real commands."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.meter import Meter
from pipeline.cli.settings import EMULATOR_KEY, emulator_overrides
from pipeline.config import Settings, load_settings
from pipeline.flows.load import Loader
from pipeline.laptop import emulator
from pipeline.laptop.home import Home, prepare
from pipeline.ports.clock import SystemClock
from pipeline.ports.ledger import Ledger

pytestmark = [pytest.mark.stack, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FLIGHTS, REFUSED = 900, 600  # every third flight has a tail number
SEED = 20130101
_LINES = [
    json.loads(line)
    for line in (ROOT / "examples" / "flights.ndjson").read_text(encoding="utf-8").splitlines()
]
FLIGHT = next(line for line in _LINES if line["event_type"] == "flight.departed")


def _schemas(folder: Path, *, strict: bool) -> Path:
    """Write the product's schemas; a strict one wants the tail number of every flight."""
    shutil.copytree(ROOT / "schemas", folder, dirs_exist_ok=True)
    path = folder / "flight.departed" / "1.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    wanted = [name for name in document["required"] if name != "tailnum"]
    document["required"] = [*wanted, "tailnum"] if strict else wanted
    path.write_text(json.dumps(document), encoding="utf-8")
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A provisioned emulator whose schema refuses flights without a tail number."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    home = Home(tmp_path / "home")
    prepare(home)
    home.emulator_log.touch()
    port = emulator.free_port()
    child = emulator.start_emulator(home, port, dies_with_parent=True)
    try:
        emulator.wait_healthy(child, home, port, 0)
        given = {
            "paths": {"home": home.path, "schemas": _schemas(tmp_path / "strict", strict=True)},
            **emulator_overrides(emulator.endpoint_url(port)),
        }
        found = load_settings(given, environ={})
        wiring.provision(found)
        yield found
    finally:
        child.kill()
        child.wait()


def _flight(number: int) -> bytes:
    data = {name: value for name, value in FLIGHT["data"].items() if name != "tailnum"}
    if number % 3 == 0:
        data["tailnum"] = "N14228"
    return json.dumps({**FLIGHT, "event_id": f"f{number}", "data": data}).encode()


def _load(settings: Settings) -> None:
    """Send the flights as plain records, and load them."""
    source = wiring.stream(settings)
    client = make_client("kinesis", wiring.connection(settings), Meter())
    for first in range(0, FLIGHTS, 300):
        records = [{"Data": _flight(one), "PartitionKey": f"{one}"} for one in range(first, first + 300)]
        assert client.put_records(StreamName=source.name, Records=records)["FailedRecordCount"] == 0
    parts = wiring.loader_parts(settings, SystemClock(), lambda _fact: None)
    for info in source.shards():
        lineage = parts.ports.ledger.register(source.name, source.epoch, info.shard_id, ())
        loader = Loader(lineage, parts.rules, parts.limits, parts.ports)
        reader = source.reader(info.shard_id, loader.start())
        while (batch := reader.read()).records or batch.behind_ms:
            loader.process(batch.records)
        loader.cut("stop")


def _environment(settings: Settings, schemas: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    return kept | {
        "HEADRACE_HOME": str(settings.paths.home),
        "HEADRACE_PATHS__SCHEMAS": str(schemas),
        "HEADRACE_AWS__ENDPOINT_URL": str(settings.aws.endpoint_url),
        "HEADRACE_AWS__ACCESS_KEY_ID": EMULATOR_KEY,
        "HEADRACE_AWS__SECRET_ACCESS_KEY": EMULATOR_KEY,
        "HEADRACE_SEGMENT__MAX_ROWS": "20",  # many segments, so that kills fall between all of their steps
    }


def _start(environment: dict[str, str], *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipeline.cli.main", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def _ask(environment: dict[str, str], *words: str) -> Any:
    done = _start(environment, *words, "--json")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err.decode()
    return json.loads(out)


def _query(environment: dict[str, str], sql: str) -> Any:
    done = _start(environment, "query", sql, "--format", "json")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err.decode()
    return json.loads(out)


def test_refused_flights_go_through_once_the_schema_is_fixed(settings: Settings, tmp_path: Path) -> None:
    """Redrives are killed again and again, two run at once: every flight is in SQL once, and the audit balances."""
    _load(settings)
    strict = _environment(settings, settings.paths.schemas)
    fixed = _environment(settings, _schemas(tmp_path / "fixed", strict=False))
    (refused,) = _ask(strict, "quarantine", "list")
    assert (refused["code"], refused["event_type"]) == ("schema_mismatch", "flight.departed")
    assert (refused["units"], refused["redriven"]) == (REFUSED, 0)
    words = ("redrive", "--reason", "schema_mismatch", "--type", "flight.departed")
    assert _ask(strict, *words, "--dry-run")["refused_still"] == REFUSED
    assert _ask(fixed, *words, "--dry-run")["redriven"] == REFUSED
    _kill_while_redriving(settings, fixed, words)
    both = [_start(fixed, *words) for _ in range(2)]
    for one in both:
        _, err = one.communicate(timeout=240)
        assert one.returncode == 0, err.decode()
    again = _ask(fixed, *words)
    assert (again["redriven"], again["segments"], again["redriven_before"]) == (0, 0, REFUSED)
    (count,) = _query(
        fixed,
        "SELECT count(*) AS n, count(DISTINCT event_id) AS ids, count(tailnum) AS tails FROM flight_departed",
    )
    assert count == {"n": FLIGHTS, "ids": FLIGHTS, "tails": FLIGHTS - REFUSED}
    (state,) = _query(
        fixed,
        "SELECT count(*) AS n, count(redriven_as) AS redriven, count(redriven_time) AS times FROM quarantine",
    )
    assert state == {"n": REFUSED, "redriven": REFUSED, "times": REFUSED}
    report = _ask(fixed, "audit")
    assert report["balanced"], report["differences"]
    assert (report["received"], report["archived"], report["quarantined"]) == (FLIGHTS, FLIGHTS, 0)
    assert report["redriven"] == REFUSED


def _kill_while_redriving(settings: Settings, environment: dict[str, str], words: tuple[str, ...]) -> None:
    """Kill redrives in the middle of their work: each once it has decided some segments more."""
    ledger, chance = wiring.archive(settings).ledger, random.Random(SEED)
    for decided in (1, 4, 9, 15, 22):
        child = _start(environment, *words)
        while _decided(ledger) < decided:
            assert child.poll() is None, "the redrive was done before it was killed"
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 0.1))  # anywhere between two plans
        child.send_signal(signal.SIGKILL)
        child.communicate()


def _decided(ledger: Ledger) -> int:
    redrives = [one.short for one in ledger.lineages() if one.redrives]
    return sum(len(ledger.segments(short)) for short in redrives)
