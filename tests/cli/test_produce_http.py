"""`headrace produce --to URL`: the command as a user starts it, against the real API and against a hostile server."""

import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.cli.destination import Destination
from pipeline.cli.produce_http import send_http
from pipeline.core.errors import Transient
from pipeline.core.kpl import split
from pipeline.sending.http_outbox import HttpOutbox
from tests.producer.http_server import KEY, SECRET, Reply, Sent, hostile, real_api, said
from tests.web.doors import MemorySink
from tests.web.serving import event

_COMMAND = [sys.executable, "-m", "pipeline.cli.main", "produce"]


def _environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))}
    return {**plain, "API_KEY": KEY, "CLIENT_SECRET": SECRET}


def _run(*words: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*_COMMAND, *words], input=text, capture_output=True, env=_environment(), timeout=60, check=False
    )


def _lines(count: int) -> bytes:
    return b"".join(orjson.dumps(event(event_id=f"e{number}")) + b"\n" for number in range(count))


def _ids(sink: MemorySink) -> list[str]:
    return [orjson.loads(part)["event_id"] for record in sink.records for part in split(record.data)]


def test_a_file_and_a_pipe(tmp_path: Path) -> None:
    """Same words, JSON and exit codes as without --to; refused lines by number, with the server's code."""
    sink, file = MemorySink(), tmp_path / "events.ndjson"
    file.write_bytes(_lines(700) + b"\n{broken\n" + orjson.dumps(event(event_type="un.known")) + b"\n")
    with real_api(sink) as url:
        found = _run(str(file), "--to", url, "--key-env", "API_KEY")
        piped = _run("-", "--json", "--to", url, "--key-env", "API_KEY", text=_lines(3))
    assert found.stdout == b"acknowledged: 700, refused: 2\n"
    assert found.returncode == 1
    assert re.search(rb"^line 702: not_json: ", found.stderr, re.MULTILINE)
    assert re.search(rb"^line 703: unknown_type at /event_type: ", found.stderr, re.MULTILINE)
    assert orjson.loads(piped.stdout) == {"lines": 3, "accepted": 3, "refused": 0}
    assert (piped.returncode, piped.stderr) == (0, b"")
    assert sorted(_ids(sink)) == sorted([f"e{number}" for number in range(700)] + ["e0", "e1", "e2"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sending_thread_that_ends_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that nobody answered for are counted out, with the reason, and are not passed over."""

    def broken(*_: Any) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr(HttpOutbox, "answered", broken)
    with real_api(MemorySink()) as url:
        to = Destination(url, KEY, None, None, None, "", None, plain_http=False)
        with pytest.raises(
            Transient,
            match=r"TypeError: a defect\..*3 may be there or not; line 1 is not done: send line 1 and all",
        ):
            send_http(io.BytesIO(_lines(3)), to, print, arriving=False)


def test_a_wrong_key_stops_at_once(tmp_path: Path) -> None:
    """The server's reason once, not for each line; exit code 2; the key is nowhere."""
    file = tmp_path / "key"
    file.write_text("hr-wrong\n")
    with real_api(MemorySink()) as url:
        found = _run("-", "--to", url, "--key-file", str(file), text=_lines(2_000))
    assert found.returncode == 2
    assert b"HTTP 401 unauthenticated" in found.stderr
    assert b"line 1 is not done" in found.stderr
    assert b"hr-wrong" not in found.stdout + found.stderr


def test_a_client_with_a_secret() -> None:
    """A token is fetched with id and secret, and sent."""

    def answer(sent: Sent) -> Reply:
        if sent.path == "/token":
            return Reply(200, {"access_token": "a-token", "expires_in": 3600})
        return said(sent) if sent.headers.get("authorization") == "Bearer a-token" else Reply(401)

    with hostile(answer) as server:
        words = ("--client-id", "me", "--secret-env", "CLIENT_SECRET", "--token-url", f"{server.url}/token")
        found = _run("-", "--to", server.url, *words, text=_lines(5))
    assert found.stdout == b"acknowledged: 5, refused: 0\n", found.stderr


@pytest.mark.parametrize(
    ("words", "said_of_it"),
    [
        (("--key-env", "API_KEY"), b"--key-env goes with --to"),
        (("--to", "https://h"), b"one credential"),
        (("--to", "https://h", "--key-env", "NOT_SET"), b"not set"),
        (("--to", "https://h", "--client-id", "me"), b"--token-url"),
        (("--to", "http://events.example.com", "--key-env", "API_KEY"), b"in the clear"),
        (("--to", "https://h", "--key-env", "API_KEY", "--ca-file", "/none"), b"ca_file"),
    ],
)
def test_what_does_not_go_together(words: tuple[str, ...], said_of_it: bytes) -> None:
    """Exit code 2 and the next step, before anything is read."""
    found = _run("-", *words)
    assert found.returncode == 2
    assert said_of_it in found.stderr
    assert b"Traceback" not in found.stderr


def _busy(after: int) -> Any:
    seen = []

    def answer(sent: Sent) -> Reply:
        seen.append(sent)
        if len(seen) <= after:
            return said(sent)
        return Reply(
            429, {"code": "quota_used_up", "detail": "the month is used up"}, {"Retry-After": "2000"}
        )

    return answer


def test_ctrl_c_says_how_far_it_is() -> None:
    """While the server makes it wait, it says so; interrupted it ends with 130, and says which lines are done."""
    with (
        hostile(_busy(1)) as server,
        subprocess.Popen(
            [*_COMMAND, "-", "--to", server.url, "--key-env", "API_KEY"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
        ) as child,
    ):
        assert child.stdin is not None
        assert child.stderr is not None
        child.stdin.write(_lines(501))
        child.stdin.close()
        assert b"waiting: HTTP 429 quota_used_up: the month is used up" in child.stderr.readline()
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
        assert child.wait(30) == 130
    assert b"500 events are acknowledged; all lines up to 500 are done" in rest
