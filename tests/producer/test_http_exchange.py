"""The exchange of both clients over HTTP: who asks for a token, and who takes what that brought."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.sending.http_answer import Answer, Lost, Outcome
from pipeline.sending.http_credential import Ask, ClientCredentials
from pipeline.sending.http_exchange import AsyncExchange, Exchange
from pipeline.sending.http_target import Target

_CALLERS, _SECONDS = 4, 10.0
_URL = "http://127.0.0.1:1"
_GONE = Lost("the token endpoint hangs", delivered=False)


class _Watched(ClientCredentials):
    """Knows when every caller has found that there is no token, and one of them asks for it."""

    def __init__(self) -> None:
        super().__init__(f"{_URL}/token", "an-id", "a-secret")
        self._looked, self._changed = 0, threading.Condition()

    def current(self, now: float) -> dict[str, str] | None:
        """Return none, and count."""
        with self._changed:
            self._looked += 1
            self._changed.notify_all()
        return super().current(now)

    def wait(self) -> None:
        """Wait until all have looked, and the one that asks once more."""
        with self._changed:
            self._changed.wait_for(lambda: self._looked > _CALLERS, _SECONDS)


class _Threads(Exchange):
    """Fails to have a token, once everybody waits for it."""

    def __init__(self, credential: _Watched) -> None:
        super().__init__(Target(_URL, _SECONDS), credential, _CALLERS)
        self.asked, self._watched = 0, credential

    def _exchange(self, ask: Ask, header: dict[str, str]) -> Outcome:
        del ask, header
        self.asked += 1
        self._watched.wait()
        return _GONE


class _Tasks(AsyncExchange):
    """The same on an event loop."""

    def __init__(self, credential: _Watched) -> None:
        super().__init__(Target(_URL, _SECONDS), credential, _CALLERS)
        self.asked, self._watched = 0, credential

    async def _exchange(self, ask: Ask, header: dict[str, str]) -> Outcome:
        del ask, header
        self.asked += 1
        await asyncio.to_thread(self._watched.wait)
        return _GONE


def _of_threads() -> tuple[int, list[Outcome]]:
    with _Threads(_Watched()) as exchange, ThreadPoolExecutor(_CALLERS) as threads:
        found = list(threads.map(lambda _: exchange.send(Ask("POST", _URL)), range(_CALLERS)))
        return exchange.asked, found


def _of_tasks() -> tuple[int, list[Outcome]]:
    async def run() -> tuple[int, list[Outcome]]:
        exchange = _Tasks(_Watched())
        found = await asyncio.gather(*(exchange.send(Ask("POST", _URL)) for _ in range(_CALLERS)))
        await exchange.close()
        return exchange.asked, found

    return asyncio.run(run())


@pytest.mark.parametrize("run", [_of_threads, _of_tasks])
def test_a_token_that_does_not_come_is_waited_for_once(run: Any) -> None:
    """Of callers that all wait for a token one asks, and when that fails all are told so: none waits as long again."""
    asked, found = run()
    assert asked == 1
    assert [outcome.why for outcome in found] == [f"no token: {_GONE.why}"] * _CALLERS


@pytest.mark.parametrize(("said", "seconds"), [('"3600"', 3540), ("3600", 3540), ("90.0", 45), ("null", 240)])
def test_how_long_a_token_is_used(said: str, seconds: float) -> None:
    """Until a minute before its end, or half its life; an answer may write that as text, or not at all."""
    credential = ClientCredentials(f"{_URL}/token", "an-id", "a-secret")
    body = f'{{"access_token": "t", "expires_in": {said}}}'.encode()
    assert credential.answered(Answer(200, {}, body), 1_000.0) is None
    assert credential.current(1_000 + seconds - 1) == {"Authorization": "Bearer t"}
    assert credential.current(1_000 + seconds) is None
