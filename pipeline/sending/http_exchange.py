"""One request and its answer over httpx: HTTP/1.1, connections kept, TLS verified, redirects not followed.

Twice, for threads and for an event loop; what they share is above them. Whatever goes wrong is a `Lost`: what it means is decided by
`http_answer`, and nothing here is tried again. Answers are read up to a limit, and up to a deadline.
"""

import asyncio
import threading
import time
from typing import Self

import httpx

from pipeline.sending.http_answer import Answer, Barred, Lost, Outcome
from pipeline.sending.http_credential import Ask, Credential
from pipeline.sending.http_target import Target

_MAX_ANSWER_BYTES = 16 * 2**20
_AGENT = "headrace-producer"
_UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
_TOO_LONG = Lost("the answer took too long, or is too large")
_DENIED = 401


def _lost(exc: httpx.HTTPError) -> Lost:
    text = str(exc)
    why = f"{type(exc).__name__}" + (f": {text}" if text else "")
    return Lost(why, delivered=not isinstance(exc, _UNSENT))


def _headers(ask: Ask, credential: dict[str, str]) -> dict[str, str]:
    # No compressed answers: they are short, and nobody can make them swell.
    return {"User-Agent": _AGENT, "Accept-Encoding": "identity", **ask.headers, **credential}


def _answer(response: httpx.Response, body: bytes) -> Answer:
    return Answer(
        response.status_code, {name.lower(): value for name, value in response.headers.items()}, body
    )


class _NoToken:
    """Why the last request for a token brought none: whoever waited for it makes no other."""

    def __init__(self) -> None:
        self._at = 0.0
        self._problem: Lost | Barred | None = None

    def since(self, moment: float) -> Lost | Barred | None:
        """Return why there is none, if that was learnt after a moment."""
        return self._problem if self._at > moment else None

    def took(
        self, credential: Credential, outcome: Outcome, asked: float, now: float
    ) -> dict[str, str] | Lost | Barred:
        """Give a credential what came of its request; return what it has then, or why nothing."""
        problem = credential.answered(outcome, asked)
        header = credential.current(asked)
        if header is not None:
            return header
        self._at = now
        self._problem = problem or Lost("the token is expired already", delivered=False)
        return self._problem


class Exchange:
    """Requests of threads."""

    def __init__(self, target: Target, credential: Credential, connections: int) -> None:
        self.target, self._credential = target, credential
        self._token_lock, self._no_token = threading.Lock(), _NoToken()
        self._client = httpx.Client(
            verify=target.verify,
            timeout=target.timeout_seconds,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=connections + 1),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, ask: Ask) -> Outcome:
        """Send a request with the credential."""
        header = self._authorized()
        if not isinstance(header, dict):
            return header
        outcome = self._exchange(ask, header)
        if isinstance(outcome, Answer) and outcome.status == _DENIED:
            self._credential.refused(header)
        return outcome

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _authorized(self) -> dict[str, str] | Lost | Barred:
        came = time.monotonic()
        header = self._credential.current(came)
        if header is not None:
            return header
        with self._token_lock:  # one asks, the others take what it got
            now = time.monotonic()
            found = self._credential.current(now) or self._no_token.since(came)
            if found is None:
                outcome = self._exchange(self._credential.request(), {})
                found = self._no_token.took(self._credential, outcome, now, time.monotonic())
            return found

    def _exchange(self, ask: Ask, header: dict[str, str]) -> Outcome:
        deadline = time.monotonic() + self.target.timeout_seconds
        try:
            with self._client.stream(
                ask.method, ask.url, headers=_headers(ask, header), content=ask.content
            ) as response:
                body = bytearray()
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES or time.monotonic() > deadline:
                        return _TOO_LONG
                return _answer(response, bytes(body))
        except httpx.HTTPError as exc:
            return _lost(exc)


class AsyncExchange:
    """Requests of one event loop."""

    def __init__(self, target: Target, credential: Credential, connections: int) -> None:
        self.target, self._credential = target, credential
        self._token_lock, self._no_token = asyncio.Lock(), _NoToken()
        self._client = httpx.AsyncClient(
            verify=target.verify,
            timeout=target.timeout_seconds,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=connections + 1),
        )

    async def send(self, ask: Ask) -> Outcome:
        """Send a request with the credential."""
        header = await self._authorized()
        if not isinstance(header, dict):
            return header
        outcome = await self._exchange(ask, header)
        if isinstance(outcome, Answer) and outcome.status == _DENIED:
            self._credential.refused(header)
        return outcome

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _authorized(self) -> dict[str, str] | Lost | Barred:
        came = time.monotonic()
        header = self._credential.current(came)
        if header is not None:
            return header
        async with self._token_lock:  # one asks, the others take what it got
            now = time.monotonic()
            found = self._credential.current(now) or self._no_token.since(came)
            if found is None:
                outcome = await self._exchange(self._credential.request(), {})
                found = self._no_token.took(self._credential, outcome, now, time.monotonic())
            return found

    async def _exchange(self, ask: Ask, header: dict[str, str]) -> Outcome:
        try:
            async with (
                asyncio.timeout(self.target.timeout_seconds),
                self._client.stream(
                    ask.method, ask.url, headers=_headers(ask, header), content=ask.content
                ) as response,
            ):
                body = bytearray()
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MAX_ANSWER_BYTES:
                        return _TOO_LONG
                return _answer(response, bytes(body))
        except TimeoutError:
            return _TOO_LONG
        except httpx.HTTPError as exc:
            return _lost(exc)
