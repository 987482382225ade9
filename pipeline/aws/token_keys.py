"""Port `TokenKeys` over HTTPS: the key set of a Cognito user pool, bounded in size and in time as a whole."""

import asyncio
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from pipeline.core.errors import ConfigProblem, Transient

MAX_BYTES = 64 * 1024  # a pool's set has 1 kB
TIMEOUT_SECONDS = 5.0  # for all of it: also against a server that sends a byte a second
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class HttpTokenKeys:
    """The key set at one address.

    Args:
        url: HTTPS; plain HTTP on this machine only, for an emulator.
        timeout_seconds: for one try, as a whole.

    Raises:
        ConfigProblem: whoever is between could put in keys of their own.
    """

    def __init__(self, url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        parts = urlsplit(url)
        self._local = parts.hostname in _LOOPBACK
        if parts.scheme != "https" and not (parts.scheme == "http" and self._local):
            raise ConfigProblem(
                f"auth.jwks_url {url}: the keys of tokens are read over https://, or http:// on this machine"
            )
        self._url, self._timeout_seconds = url, timeout_seconds

    def fetch(self) -> bytes:
        """Return the key set as it is published; see the port."""
        try:
            return asyncio.run(self._within())
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as exc:
            raise Transient(f"{self._url}: {type(exc).__name__} {exc}".rstrip()) from exc

    async def _within(self) -> bytes:
        async with (
            asyncio.timeout(self._timeout_seconds),
            httpx.AsyncClient(
                trust_env=not self._local,
                follow_redirects=False,  # another address is another key set
                timeout=self._timeout_seconds,
                headers={"Accept-Encoding": "identity"},
            ) as client,
            client.stream("GET", self._url) as answer,
        ):
            if answer.status_code != HTTPStatus.OK or "content-encoding" in answer.headers:
                raise Transient(f"{self._url}: answered {answer.status_code}, or packed")
            body = bytearray()
            async for part in answer.aiter_raw():
                body += part
                if len(body) > MAX_BYTES:
                    raise Transient(f"{self._url}: more than {MAX_BYTES} bytes are no key set")
            return bytes(body)
