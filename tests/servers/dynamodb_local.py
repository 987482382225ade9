"""DynamoDB Local: AWS' own, from Maven Central; the second opinion on every conditional write."""

import atexit
import functools
import os
import subprocess
from pathlib import Path

from pipeline.laptop.emulator import HOST, endpoint_url, free_port
from pipeline.machine.processes import wait_until
from tests.servers.install import NotHere, installed, need, run
from tests.servers.listening import listens

VERSION = "2.5.4"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion><groupId>tests</groupId><artifactId>tests</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>com.amazonaws</groupId><artifactId>DynamoDBLocal</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>"""
_MAIN = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
_START_SECONDS = 60.0


def install() -> Path:
    """Return the folder of its jars, about 50 MB.

    Raises:
        NotHere: there is no Java, no Maven, or no Maven Central.
    """
    need("java")

    def fill(folder: Path) -> None:
        need("mvn")
        (folder / "pom.xml").write_text(_POM, encoding="utf-8")
        where = [f"-DoutputDirectory={folder / 'lib'}", "-DincludeScope=runtime"]
        run(["mvn", "--quiet", "--batch-mode", "dependency:copy-dependencies", *where], folder)

    return installed(f"dynamodb-local-{VERSION}", fill)


@functools.cache
def endpoint() -> str:
    """Start it, once for this process, which ends it; return its endpoint.

    Raises:
        NotHere: see `install`; or it does not answer.
    """
    lib, port = install() / "lib", free_port()
    command = ["java", "-Xmx512m", f"-Djava.library.path={lib}", "-cp", f"{lib}/*", _MAIN]
    child = subprocess.Popen(
        [*command, "-inMemory", "-sharedDb", "-disableTelemetry", "-port", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "AWS_REGION": "us-east-1"},
    )
    atexit.register(_end, child)
    wait_until(lambda: child.poll() is not None or listens(HOST, port), _START_SECONDS)
    if not listens(HOST, port):
        raise NotHere(f"DynamoDB Local does not answer; its exit code is {child.poll()}")
    return endpoint_url(port)


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
