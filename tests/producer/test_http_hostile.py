"""Both clients against a server that breaks every rule: nothing hangs, nothing is sent twice under new ids, nothing leaks."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.retry import Backoff
from pipeline.producer import EventsLost, Report, client_credentials, connect_http, connect_http_async
from tests.producer.http_server import KEY, SECRET, Reply, Sent, hostile, said, script
from tests.producer.numbered import numbered

_SECONDS = 20.0
_QUICK: dict[str, Any] = {
    "linger_seconds": 0.02,
    "backoff": Backoff(base_seconds=0.01, cap_seconds=0.02),
    "lanes": 2,
}


def _sync(url: str, count: int, **options: Any) -> Report:
    credential = options.pop("credential", {"api_key": KEY})
    producer = connect_http(url, **credential, **{**_QUICK, **options})
    for number in range(count):
        producer.put(numbered(number))
    report = producer.close(_SECONDS)
    assert KEY not in f"{report} {report.batches} {producer!r}"
    return report


def _async(url: str, count: int, **options: Any) -> Report:
    async def run() -> Report:
        credential = options.pop("credential", {"api_key": KEY})
        producer = connect_http_async(url, **credential, **{**_QUICK, **options})
        for number in range(count):
            await producer.put(numbered(number))
        report = await producer.close(_SECONDS)
        assert KEY not in f"{report} {report.batches} {producer!r}"
        return report

    return asyncio.run(run())


SHELLS = pytest.mark.parametrize("run", [_sync, _async])
HTML = Reply(200, b"<html>log in to the wireless network</html>", {"Content-Type": "text/html"})


@SHELLS
@pytest.mark.parametrize(
    "bad",
    [
        Reply(drop=True),
        Reply(500, b"oops", {"Content-Type": "text/plain"}),
        Reply(502, b"\x00\xff" * 100),
        Reply(503, b"", {"Retry-After": "0"}),
        Reply(429, b"", {"Retry-After": "0"}),
        Reply(
            429, b"", {"Retry-After": format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)}
        ),
        Reply(202, b"", {"Content-Encoding": "gzip"}),
        Reply(202, b'{"events": "many"}'),
        Reply(409, {"code": "in_flight"}, {"Content-Type": "application/problem+json"}),
        HTML,
    ],
)
def test_it_is_sent_again_under_the_same_key(run: Any, bad: Reply) -> None:
    """After any answer that settles nothing: the same bytes under the same key, until it is answered."""
    with hostile(script(bad, bad)) as server:
        report = run(server.url, 3)
    assert str(report) == "3 acknowledged"
    assert len(server.keys) == 3
    assert len(set(server.keys)) == 1
    assert len({one.body for one in server.sent}) == 1


@SHELLS
def test_retry_after_is_waited_for(run: Any) -> None:
    """A second attempt comes no sooner than the server said."""
    times = []

    def answer(sent: Sent) -> Reply:
        times.append(datetime.now(UTC))
        return Reply(429, b"", {"Retry-After": "1"}) if len(times) == 1 else said(sent)

    with hostile(answer) as server:
        assert run(server.url, 1, retry_seconds=0.1).acknowledged == 1  # 429 uses no patience up
    assert (times[1] - times[0]).total_seconds() >= 1


@SHELLS
def test_a_mix_is_settled_by_event(run: Any) -> None:
    """Accepted, refused, and what is to be sent again: that alone, under its id and a new key."""

    def answer(sent: Sent) -> Reply:
        return (
            said(sent, status=207, refused=(1,), retry=(2,))
            if len(server.sent) == 1
            else said(sent, receipt="s")
        )

    with hostile(answer) as server:
        report = run(server.url, 3)
    assert [fate.kind for _, fate in sorted(report.fates())] == ["acknowledged", "refused", "acknowledged"]
    assert (report.of(1).code, report.of(1).pointer, report.of(1).why) == ("bad", "/x", "no")
    assert [report.of(0).receipt, report.of(2).receipt] == ["r", "s"]
    assert [one["event_id"] for one in server.sent[1].events] == ["e2"]
    assert len(set(server.keys)) == 2


@SHELLS
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(run: Any, status: int) -> None:
    """The credential goes to the URL that was given and to no other; the fate says where it was sent on to."""
    with (
        hostile(script()) as elsewhere,
        hostile(lambda _sent: Reply(status, b"", {"Location": elsewhere.url + "/v1/events"})) as server,
    ):
        report = run(server.url, 1)
    assert elsewhere.sent == []
    assert report.of(0).code == "redirected"
    assert elsewhere.url in report.of(0).why


@SHELLS
def test_a_slow_answer_has_an_end(run: Any) -> None:
    """An answer that comes byte by byte for ever is given up, and nobody knows what became of the event."""
    with hostile(lambda _sent: Reply(202, trickle=True)) as server:
        report = run(server.url, 1, timeout_seconds=0.3, retry_seconds=0.5)
    assert report.of(0).kind == "unknown"
    assert "given up" in report.of(0).why
    assert len(set(server.keys)) == 1


@SHELLS
def test_nobody_there(run: Any) -> None:
    """Nothing was ever sent: the events are refused, not unknown, and the reason is said."""
    report = run("http://127.0.0.1:9", 2, retry_seconds=0.2)
    assert {fate.kind for _, fate in report.fates()} == {"refused"}
    assert report.of(0).code == "unreachable"


def test_a_server_that_repeats_the_key_is_not_believed() -> None:
    """What a server says is told without the credential, without control characters, and not at any length."""
    body = {"code": "forbidden", "detail": f"\x1b[31m{KEY} " + "x" * 5_000}
    with hostile(lambda _sent: Reply(403, body)) as server:
        report = _sync(server.url, 1)
    why = report.of(0).why
    assert "hidden" in why
    assert why.isprintable()
    assert len(why) < 1_000


def test_put_waits_and_then_says_what_is_wrong() -> None:
    """The memory is full while the month's quota is used up: `put` says both, and the event was not taken."""
    body = {"code": "quota_used_up", "detail": "the month is used up"}
    with hostile(lambda _sent: Reply(429, body, {"Retry-After": "3000"})) as server:
        producer = connect_http(server.url, api_key=KEY, max_buffer_bytes=300, **_QUICK)
        producer.put(numbered(0))
        assert producer.flush(0.5).waiting == 1
        with pytest.raises(Transient, match="the month is used up"):
            producer.put(numbered(1), timeout=0.05)
        assert producer.close(0.05).waiting == 1


class Issuer:
    """An authorization server, and an API that knows its newest token alone."""

    def __init__(self, seconds: float = 3_600, fail: int = 0) -> None:
        self.issued, self.asked, self._seconds, self._fail = list[str](), list[Sent](), seconds, fail
        self._lock = threading.Lock()

    def __call__(self, sent: Sent) -> Reply:
        """Answer."""
        with self._lock:
            if sent.path == "/token":
                self.asked.append(sent)
                if len(self.asked) <= self._fail:
                    return Reply(503)
                self.issued.append(f"token-{len(self.issued)}")
                return Reply(200, {"access_token": self.issued[-1], "expires_in": self._seconds})
            known = sent.headers.get("authorization") == f"Bearer {self.issued[-1]}"
            return said(sent) if known else Reply(401, {"code": "unauthenticated"})


@SHELLS
def test_one_token_for_all(run: Any) -> None:
    """Many requests at once ask for one token; a token that has not come at first comes later."""
    issuer = Issuer(fail=2)
    with hostile(issuer) as server:
        client = {"client": client_credentials(f"{server.url}/token", "an-id", SECRET, "headrace/ingest")}
        report = run(server.url, 40, credential=client, max_batch_events=2)
    assert report.acknowledged == 40
    assert issuer.issued == ["token-0"]
    assert b"scope=headrace%2Fingest" in issuer.asked[0].body
    assert SECRET not in issuer.asked[0].headers["authorization"]


@SHELLS
def test_a_refused_token_is_renewed(run: Any) -> None:
    """The issuer forgot it: one 401, one new token, and the same request again under its key."""
    issuer = Issuer()
    with hostile(issuer) as server:
        credential = client_credentials(f"{server.url}/token", "an-id", SECRET)
        run(server.url, 1, credential={"client": credential})
        issuer.issued.append("token of another")
        report = run(server.url, 1, credential={"client": credential})
    assert report.acknowledged == 1
    assert len(issuer.asked) == 2
    assert server.keys[-1] == server.keys[-2]


@SHELLS
def test_a_short_token_is_renewed_before_its_end(run: Any) -> None:
    """A token that is good for 0 s is used for nothing; no request is sent with it."""
    with hostile(Issuer(seconds=0)) as server:
        credential = client_credentials(f"{server.url}/token", "an-id", SECRET)
        report = run(server.url, 1, credential={"client": credential}, retry_seconds=0.1)
    assert report.of(0).code == "unreachable"
    assert server.keys == []


@SHELLS
def test_a_wrong_secret(run: Any) -> None:
    """The authorization server says no: the events are refused at once, with its word, and without the secret."""
    body = {"error": f"invalid_client {SECRET}"}
    with hostile(lambda _sent: Reply(401, body)) as server:
        credential = client_credentials(f"{server.url}/token", "an-id", SECRET)
        report = run(server.url, 1, credential={"client": credential})
    assert report.of(0).code == "unauthenticated"
    assert "invalid_client" in report.of(0).why
    assert SECRET not in f"{report.batches} {credential!r}"


def _states(*states: str) -> Any:
    left = iter(states)

    def answer(sent: Sent) -> Reply:
        if sent.method == "GET":
            state = next(left)
            return Reply(int(state)) if state.isdigit() else Reply(200, {"state": state})
        return said(sent, receipt="a receipt/with signs")

    return answer


@SHELLS
def test_a_report_is_followed_until_it_is_queryable(run: Any) -> None:
    """Receipts are asked about until every one is queryable; a failure between is asked again."""
    with hostile(_states("received", "503", "queryable")) as server:
        report = run(server.url, 1)
        if run is _sync:
            producer = connect_http(server.url, api_key=KEY)
            assert producer.wait_queryable(report, 20)
            producer.close()
        else:

            async def follow() -> bool:
                producer = connect_http_async(server.url, api_key=KEY)
                found = await producer.wait_queryable(report, 20)
                await producer.close()
                return found

            assert asyncio.run(follow())
    asked = [one for one in server.sent if one.method == "GET"]
    assert len(asked) == 3
    assert asked[0].path.startswith("/v1/receipts/a%20receipt%2Fwith%20signs?wait=queryable&timeout=")


@SHELLS
def test_lost_events_are_told_by_their_tickets(run: Any) -> None:
    """A receipt that is lost is asked about once, the others are followed to their end, and then the lost ones are named."""
    states = {"r1": "lost", "r2": "queryable"}

    def answer(sent: Sent) -> Reply:
        if sent.method == "GET":
            return Reply(200, {"state": states[sent.path.split("/")[-1].partition("?")[0]]})
        return said(sent, receipt="r1" if sent.events[0]["event_id"] == "e0" else "r2")

    with hostile(answer) as server:
        report = run(server.url, 2, max_batch_events=1)
        assert report.receipts == ("r1", "r2")
        with pytest.raises(EventsLost, match=r"1 acknowledged event may be lost.*event_id") as told:
            _followed(run, server.url, report)
        assert told.value.tickets == (0,)
        states["r2"] = "received"
        with pytest.raises(EventsLost):
            _followed(run, server.url, report, 0)
    assert sum("/r1?" in one.path for one in server.sent) == 2


def _followed(run: Any, url: str, report: Report, seconds: float = _SECONDS) -> bool:
    if run is _sync:
        with connect_http(url, api_key=KEY) as producer:
            return producer.wait_queryable(report, seconds)

    async def follow() -> bool:
        async with connect_http_async(url, api_key=KEY) as producer:
            return await producer.wait_queryable(report, seconds)

    return asyncio.run(follow())


@SHELLS
def test_events_without_a_receipt_are_not_called_queryable(run: Any) -> None:
    """A request over very many shards has none: nobody can tell of its events."""
    with hostile(lambda sent: said(sent, receipt=None)) as server:
        report = run(server.url, 2)
        with pytest.raises(ConfigProblem, match=r"2 acknowledged events have no receipt.*max_batch_events"):
            _followed(run, server.url, report)


def test_not_queryable_in_time() -> None:
    """It says so, and does not raise; a server that fails all the time is named."""
    with hostile(_states("archived")) as server, connect_http(server.url, api_key=KEY) as producer:
        producer.put(numbered(0))
        assert not producer.wait_queryable(producer.flush(), 0)
    with hostile(_states("500")) as server, connect_http(server.url, api_key=KEY) as producer:
        producer.put(numbered(0))
        with pytest.raises(Transient, match="HTTP 500"):
            producer.wait_queryable(producer.flush(), 0)


def test_lines_are_json() -> None:
    """Each line of a request is one event with its id; gzip where it helps."""
    with hostile(script()) as server:
        _sync(server.url, 50, linger_seconds=0.3)
    sent = server.sent[0]
    assert sent.headers["content-encoding"] == "gzip"
    assert [one["event_id"] for one in server.sent[0].events] == [f"e{n}" for n in range(len(sent.events))]
