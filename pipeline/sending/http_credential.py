"""Who a client of the HTTP API is: an API key, or OAuth2 client credentials whose tokens are had anew before they expire.

Without I/O: whoever sends does the request for a token, once for all who wait. No `repr`, message or log shows a secret: `hide`
takes it out of texts that a server wrote.
"""

import base64
import re
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote_plus, urlencode

import msgspec

from pipeline.core.errors import ConfigProblem
from pipeline.sending.http_answer import Answer, Barred, Lost, Outcome, shown

_MARGIN_SECONDS = 60.0  # a token is had anew so long before its end, or at half its life where that is later
_DEFAULT_SECONDS = 300.0  # of a token whose answer does not say how long
_OK, _FAULT, _LATER = 200, 500, frozenset({408, 425, 429})
_VISIBLE = re.compile(r"[!-~]+")  # what a header takes
_HIDDEN = "[hidden]"


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


@dataclass(frozen=True)
class Ask:
    """One request of our own beside the events: for a token, or about a receipt."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)


class Credential(Protocol):
    """What a request carries to say whose it is."""

    @property
    def renewable(self) -> bool:
        """Return whether another one can be had."""
        ...

    def current(self, now: float) -> dict[str, str] | None:
        """Return the header to send; None: `request` first, and tell `answered`."""
        ...

    def request(self) -> Ask:
        """Return the request for a new one."""
        ...

    def answered(self, outcome: Outcome, now: float) -> Lost | Barred | None:
        """Take what came of that request; return why there is none."""
        ...

    def refused(self, header: dict[str, str]) -> None:
        """Use this one no more."""
        ...

    def hide(self, text: str) -> str:
        """Return a text without secrets."""
        ...


class ApiKey:
    """A key that is sent with each request.

    Raises:
        ConfigProblem: it is no key that a header takes.
    """

    renewable = False

    def __init__(self, key: str) -> None:
        self._key = _visible("the API key", key)

    def __repr__(self) -> str:
        return f"ApiKey({_HIDDEN})"

    def current(self, now: float) -> dict[str, str] | None:
        """Return the header."""
        del now
        return {"X-API-Key": self._key}

    def request(self) -> Ask:
        """There is no other key."""
        raise ConfigProblem("an API key is not renewed by itself: make a new one")

    def answered(self, outcome: Outcome, now: float) -> Lost | Barred | None:
        """Nothing is asked for."""
        del outcome, now
        return None

    def refused(self, header: dict[str, str]) -> None:
        """The server's word is told with the events; another key would be another producer's."""
        del header

    def hide(self, text: str) -> str:
        """Return a text without the key."""
        return text.replace(self._key, _HIDDEN)


class ClientCredentials:
    """OAuth2 client credentials (RFC 6749, 4.4), sent by HTTP Basic.

    Args:
        token_url: of the authorization server.
        client_id, client_secret: of this client.
        scope: asked for; "" for what the client has.

    Raises:
        ConfigProblem: the id or the secret is no such thing.
    """

    renewable = True

    def __init__(self, token_url: str, client_id: str, client_secret: str, scope: str = "") -> None:
        self._url, self._scope = token_url, scope
        self._id = _visible("the client id", client_id)
        self._secret = _visible("the client secret", client_secret)
        self._token: str | None = None
        self._renew_at = 0.0

    def __repr__(self) -> str:
        return f"ClientCredentials({self._url}, {self._id}, {_HIDDEN})"

    def current(self, now: float) -> dict[str, str] | None:
        """Return the header, while the token is good for a while."""
        token = self._token
        return None if token is None or now >= self._renew_at else {"Authorization": f"Bearer {token}"}

    def request(self) -> Ask:
        """Return the request for a token."""
        pair = f"{quote_plus(self._id)}:{quote_plus(self._secret)}".encode()  # RFC 6749, 2.3.1
        headers = {
            "Authorization": "Basic " + base64.b64encode(pair).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        form = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        return Ask("POST", self._url, headers, urlencode(form).encode())

    def answered(self, outcome: Outcome, now: float) -> Lost | Barred | None:
        """Keep the token; `now` is when it was asked for."""
        if not isinstance(outcome, Answer):
            why = f"no token: {self.hide(outcome.why)}"
            return Lost(why, delivered=False) if isinstance(outcome, Lost) else Barred(why)
        if outcome.status == _OK:
            try:
                found = msgspec.json.decode(outcome.body, type=_Token, strict=False)  # some write "3600"
                self._token = _visible("the token", found.access_token)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ConfigProblem):
                return Lost(f"no token: {self._url} answered 200 without one", delivered=False)
            seconds = _DEFAULT_SECONDS if found.expires_in is None else found.expires_in
            self._renew_at = now + max(seconds - _MARGIN_SECONDS, seconds / 2)
            return None
        why = f"no token: {self._url} answered HTTP {outcome.status}{self._error(outcome)}"
        if outcome.status >= _FAULT or outcome.status in _LATER:
            return Lost(why, delivered=False)
        return Barred(f"{why}; check client id, secret, scope and token URL")

    def refused(self, header: dict[str, str]) -> None:
        """Use this token no more; a newer one stays."""
        if header.get("Authorization") == f"Bearer {self._token}":
            self._token = None

    def hide(self, text: str) -> str:
        """Return a text without secret and token."""
        for secret in (self._secret, quote_plus(self._secret), self._token):
            text = text.replace(secret, _HIDDEN) if secret else text
        return text

    def _error(self, answer: Answer) -> str:
        try:
            error = msgspec.json.decode(answer.body, type=_Refusal).error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ""
        return f" {self.hide(shown(error))}" if error else ""


def _visible(name: str, value: str) -> str:
    if not _VISIBLE.fullmatch(value):
        raise ConfigProblem(
            f"{name} must be visible ASCII characters without spaces (is a line end at its end?)"
        )
    return value
