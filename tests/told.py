"""What a whole run of the tests has told: logs of all processes, and answers of the API, searched at its end for what no one may tell.

A home that a test wipes is kept here first (`keep`); what a test reads from a pipe goes on into a file (`drain`); answers are
noted as they come, in every worker. The run fails when a secret is in a log or an answer, or a planted payload in a log.

What looks like a secret is found by its form, whoever made it: a key, a token, a private key, a URL with a password. Words
that tests plant begin with `SECRET` or `PAYLOAD`.
"""

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import wraps
from pathlib import Path
from typing import IO, Any

import falcon.testing
import httpx
import pytest

SECRET, PAYLOAD = "pl4nted-secret-", "pl4nted-payload-"
FOLDER = "TOLD_FOLDER"  # of the environment: the same for all workers of a run
_SECRETS = {
    "an API key": rb"hr_[a-z0-9]{1,16}_[0-9a-f]{16}_[A-Za-z0-9_-]{33,}",
    "a token": rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "a private key": rb"-----BEGIN [A-Z ]*PRIVATE KEY",
    "a password": rb"postgres(?:ql)?(?:\+\w+)?://[^:/\s@]+:(?!\*\*\*)[^@\s]+@",
    "a planted secret": SECRET.encode(),
}
_PAYLOADS = {"a planted payload": PAYLOAD.encode()}
_DATA = frozenset({"objects", "state", "spill", "schemas"})  # folders of what is stored, not told
_ANSWERS = "answers-"
_MAX_BODY = 65_536  # bytes of an answer that are noted
_lock = threading.Lock()


def keep(home: Path) -> None:
    """Keep the logs of a home that is about to be wiped."""
    for path in _logs(home):
        name = "-".join(path.relative_to(home.parent).parts)
        shutil.copy(path, _folder() / f"{os.getpid()}-{threading.get_ident()}-{name}")


def drain(stream: IO[str], name: str) -> None:
    """Read what is left of a process' output, into a log of the run, in a thread."""

    def copied() -> None:
        with (_folder() / f"{os.getpid()}-{id(stream)}-{name}.log").open("a") as log:
            shutil.copyfileobj(stream, log)

    threading.Thread(target=copied, daemon=True).start()


def found_in(folders: Iterable[Path]) -> list[str]:
    """Return where something is that nobody may tell, and what; never the thing itself."""
    return [
        f"{what} in {path}"
        for folder in folders
        for path in _logs(folder)
        for what, pattern in (_SECRETS if path.name.startswith(_ANSWERS) else _SECRETS | _PAYLOADS).items()
        if re.search(pattern, path.read_bytes())
    ]


def begin() -> None:
    """Make the folder of this run, and note every answer of the API from now on."""
    if FOLDER not in os.environ:
        os.environ[FOLDER] = tempfile.mkdtemp(prefix="told-")
    if not hasattr(httpx.Client.send, "__wrapped__"):
        httpx.Client.send = _noting_answers(httpx.Client.send)  # type: ignore[method-assign]
        of_app = falcon.testing.TestClient.simulate_request
        falcon.testing.TestClient.simulate_request = _noting_results(of_app)  # type: ignore[method-assign]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search what the run has told; once, when all workers have ended."""
    if hasattr(session.config, "workerinput"):
        return
    folders = [_folder()]
    factory = getattr(session.config, "_tmp_path_factory", None)
    if factory is not None and factory._basetemp is not None:
        folders.append(factory.getbasetemp())
    _Verdict.leaks = found_in(folders)
    if _Verdict.leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    else:
        shutil.rmtree(_folder(), ignore_errors=True)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Name each leak."""
    for leak in _Verdict.leaks:
        terminalreporter.write_line(f"LEAK: {leak}", red=True)


class _Verdict:
    leaks: tuple[str, ...] | list[str] = ()


def _folder() -> Path:
    return Path(os.environ[FOLDER])


def _logs(folder: Path) -> Iterator[Path]:
    """Yield what processes have said: files `log` and `*.log`, and all in a folder `logs`, but not what is stored."""
    for root, folders, files in os.walk(folder):
        folders[:] = [one for one in folders if one not in _DATA and not Path(root, one).is_symlink()]
        for name in files:
            path = Path(root, name)
            if name == "log" or path.suffix == ".log" or path.parent.name == "logs":
                yield path


def _noted(method: str, url: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
    if "x-request-id" not in headers or not _folder().is_dir():  # not of our API, or the run is over
        return
    with _lock, (_folder() / f"{_ANSWERS}{os.getpid()}.log").open("ab") as log:
        log.write(
            f"{method} {status} {headers}\n".encode() + _without_question(body[:_MAX_BODY], url) + b"\n"
        )


def _without_question(body: bytes, url: str) -> bytes:
    """Return a body without what the caller itself had put into the address."""
    asked = url.rpartition("/")[2].partition("?")[0].encode()
    secret = any(re.search(pattern, asked) for pattern in _SECRETS.values())
    return body.replace(asked, b"") if secret else body


def _noting_answers(send: Any) -> Any:
    @wraps(send)
    def noting(client: httpx.Client, request: httpx.Request, **more: Any) -> httpx.Response:
        answer: httpx.Response = send(client, request, **more)
        if answer.is_closed:  # read whole
            _noted(request.method, str(request.url), answer.status_code, answer.headers, answer.content)
        return answer

    return noting


def _noting_results(simulate: Any) -> Any:
    @wraps(simulate)
    def noting(client: Any, *given: Any, **more: Any) -> falcon.testing.Result:
        answer: falcon.testing.Result = simulate(client, *given, **more)
        _noted("", str(more.get("path") or ""), answer.status_code, answer.headers, answer.content)
        return answer

    return noting
