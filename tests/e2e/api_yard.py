"""A deployment whose HTTP API runs behind the fault proxy, while its loader asks the emulator directly."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from pipeline import wiring
from pipeline.machine.processes import wait_until
from tests.core.kit import event
from tests.e2e.yard import PATIENCE, Worker, Yard
from tests.faults.proxy import FaultProxy
from tests.told import PAYLOAD

TENANT = "busy"
_KEY_WORDS = ("keys", "create", TENANT, "--scope", "ingest,read", "--json")


class ApiYard(Yard):
    """Stream, archive, loader and API; a tenant with the largest plan, and its key."""

    def __init__(self, folder: Path, proxy: FaultProxy, **more: Any) -> None:
        cuts: dict[str, Any] = {
            "HEADRACE_WEB__PORT": "0",
            "HEADRACE_SEGMENT__MAX_ROWS": "5000",
            "HEADRACE_SEGMENT__MAX_IDLE_SECONDS": "1",
        }
        super().__init__(folder, proxy, **cuts | more)
        wiring.provision(self.unharmed)
        self.headrace("tenants", "add", TENANT, "--plan", "premium")
        self.key: dict[str, Any] = json.loads(self.headrace(*_KEY_WORDS))
        self.api, self.loader = Worker("api", ("consumers.api",), self), _Loader(self)

    def headrace(self, *words: str) -> str:
        """Run a command; return what it says."""
        command = [sys.executable, "-m", "pipeline.cli.main", *words]
        done = subprocess.run(
            command, env=self.worker_environment(), capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self) -> None:  # type: ignore[override]  # this one starts all it has
        """Start loader and API; both are ready on return."""
        self.loader.begin()
        self.api.begin()
        assert wait_until(lambda: b'"ApiStarted"' in self.api.log.read_bytes(), PATIENCE), (
            self.api.log.read_text()
        )
        assert wait_until(self.loader.at_work, PATIENCE), self.loader.log.read_text()

    @property
    def url(self) -> str:
        """Return where the API answers."""
        lines = self.api.log.read_text().splitlines()
        return str(next(json.loads(line)["url"] for line in lines if '"ApiStarted"' in line))

    def client(self, timeout_seconds: float = 60) -> httpx.Client:
        """Return a client with the tenant's key."""
        headers = {"X-API-Key": self.key["key"]}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_seconds)

    def kill_all(self) -> None:
        """Kill what still runs, whatever happened in the test."""
        for process in self.readers:
            process.kill()
            process.wait()

    def end(self) -> None:
        """Let the API drain, then the loader; both end well."""
        assert self.api.process is not None
        self.api.process.send_signal(signal.SIGTERM)
        assert self.api.process.wait(PATIENCE) == 0, self.api.log.read_text()[-3_000:]
        assert self.loader.end() == 0


class _Loader(Worker):
    """The reader, which never sees the proxy."""

    def __init__(self, yard: Yard) -> None:
        super().__init__("loader", ("consumers.reader",), yard)

    def begin(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            environment = self.yard.worker_environment()
            environment["HEADRACE_AWS__ENDPOINT_URL"] = self.yard.proxy.upstream
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                env=environment,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.yard.readers.append(self.process)


def body(**more: Any) -> dict[str, Any]:
    """Return an event as a client sends it: the tenant is the credential's."""
    found = event(source=f"{PAYLOAD}source", **more)
    del found["tenant_id"]
    return found
