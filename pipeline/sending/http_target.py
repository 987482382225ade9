"""Where requests go: a URL that a credential may be sent to, and the certificates that are trusted there."""

import ipaddress
import ssl
from typing import Protocol
from urllib.parse import urlsplit

from pipeline.core.errors import ConfigProblem
from pipeline.sending.http_answer import Outcome
from pipeline.sending.http_batch import HttpBatch
from pipeline.sending.http_credential import Ask

_PATH = "/v1/events"


class Requests(Protocol):
    """Does requests with the credential, from any thread; used by the producer of threads."""

    def send(self, ask: Ask) -> Outcome:
        """Return what came of it; never raises for what a network or server does."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class AsyncRequests(Protocol):
    """The same on an event loop."""

    async def send(self, ask: Ask) -> Outcome:
        """Return what came of it; never raises for what a network or server does."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


class Target:
    """Where requests go, and how.

    Args:
        url: of the API, as `headrace status` shows it.
        timeout_seconds: for one request, whole.
        ca_file: certificates to trust instead of the usual ones.
        plain_http: allow `http://` to another machine; credentials then travel in the clear.

    Raises:
        ConfigProblem: the URL is none, or not safe for a credential.
    """

    def __init__(
        self, url: str, timeout_seconds: float, ca_file: str | None = None, *, plain_http: bool = False
    ) -> None:
        self.url = checked_url(url, "url", plain_http=plain_http).rstrip("/")
        self.timeout_seconds = timeout_seconds
        self.verify: ssl.SSLContext | bool = True
        if ca_file is not None:
            try:
                self.verify = ssl.create_default_context(cafile=ca_file)
            except (OSError, ssl.SSLError) as exc:
                raise ConfigProblem(f"ca_file {ca_file}: {exc}; name a file of certificates (PEM)") from exc

    def ask(self, batch: HttpBatch) -> Ask:
        """Return the request that carries events."""
        return Ask("POST", self.url + _PATH, batch.headers(), batch.body()[0])


def checked_url(url: str, name: str, *, plain_http: bool = False) -> str:
    """Return a URL that a credential may be sent to.

    Raises:
        ConfigProblem: it is none, carries a credential itself, or is plain HTTP to another machine.
    """
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as exc:
        raise ConfigProblem(f"{name}: {exc}; it is like https://events.example.com") from exc
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigProblem(f"{name} must be like https://events.example.com")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigProblem(
            f"{name}: leave out what is before @ and after ? or #; credentials are given apart"
        )
    if parts.scheme == "http" and not plain_http and not _is_here(host):
        raise ConfigProblem(
            f"{name} {url}: a credential would travel in the clear; use https, or allow it (plain_http) inside a network "
            "that you trust"
        )
    return url


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
