"""kinesis-local: a Kinesis that reshards as AWS does, from npm. Slow: hundreds of records, not thousands."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.laptop.emulator import HOST, endpoint_url, free_port
from pipeline.machine.processes import wait_until
from tests.servers.install import NotHere, installed, need, run
from tests.servers.listening import listens

VERSION = "0.6.2"
_START_SECONDS = 60.0


def install() -> Path:
    """Return the folder of its package.

    Raises:
        NotHere: there is no Node.js, or no npm registry.
    """
    need("node")

    def fill(folder: Path) -> None:
        need("npm")
        options = ["--no-audit", "--no-fund", "--ignore-scripts"]
        run(["npm", "install", "--prefix", str(folder), *options, f"kinesis-local@{VERSION}"], folder)

    return installed(f"kinesis-local-{VERSION}", fill) / "node_modules" / "kinesis-local"


@contextmanager
def running(log: Path) -> Iterator[str]:
    """Run it on free loopback ports; give its endpoint.

    Raises:
        NotHere: see `install`; or it does not answer.
    """
    package, plain, tls = install(), free_port(), free_port()
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    with log.open("wb") as out:
        child = subprocess.Popen(
            ["node", "main.js"],
            cwd=package,  # it reads its certificate from there
            env=kept
            | {
                "KINESIS_MOCK_PLAIN_PORT": str(plain),
                "KINESIS_MOCK_TLS_PORT": str(tls),
                "LOG_LEVEL": "WARN",
                "AWS_REGION": "us-east-1",
                "SHARD_LIMIT": "100",
            },
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        wait_until(lambda: child.poll() is not None or listens(HOST, plain), _START_SECONDS)
        if not listens(HOST, plain):
            raise NotHere(f"kinesis-local does not answer; its exit code is {child.poll()}, see {log}")
        yield endpoint_url(plain)
    finally:
        child.kill()
        child.wait()
