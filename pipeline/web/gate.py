"""Who is let in: credential and scope. The only place where a request becomes a caller; plans are `limits`'."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Protocol

from falcon.asgi import Request

from pipeline.core.caller import Caller, Denied
from pipeline.core.credential import Presented, presented
from pipeline.core.errors import ConfigProblem, HeadraceError, Transient
from pipeline.core.plan import DELIVERED
from pipeline.facts import CredentialsRefused, FactSink, LookUpsFailed
from pipeline.flows.authenticate import Authenticator, Missing
from pipeline.web.entry import values_of
from pipeline.web.problems import Problem
from pipeline.web.route import Route
from pipeline.web.threads import unavailable
from pipeline.wiring.front_door import FrontDoor

NOBODY = Caller("", "nobody", frozenset(), DELIVERED[0])
TELL_EVERY_SECONDS = 5.0  # one line of the log for all refusals between
_ROUNDS = 4  # the issuer's keys, a client, its tenant, and the answer
_CHALLENGE = 'Bearer realm="headrace"'  # RFC 6750; a key has no scheme of its own


class Gate(Protocol):
    """What the application asks. Called for every request of a route that is not open."""

    nobody: Caller

    async def admit(self, request: Request, route: Route) -> Caller:
        """Return who calls, when that credential has the route's scope.

        Raises:
            Denied: there is no valid credential.
            Problem: it is not for this route, or nobody can tell at the moment.
        """
        ...

    def problem(self, denied: Denied) -> Problem:
        """Return what a caller is told: never which part of the credential was wrong."""
        ...

    def catch_up(self) -> None:
        """Begin what is due though no request brings it along; on the event loop, about once a second. Waits for nothing."""
        ...

    async def close(self) -> None:
        """Finish; no request comes any more."""
        ...


class CredentialGate:
    """Lets in whoever shows one valid credential with the scope of the route. Lives on one event loop."""

    nobody = NOBODY

    def __init__(self, door: FrontDoor, authenticator: Authenticator) -> None:
        self._door, self._authenticator = door, authenticator
        self._readings: dict[Missing, asyncio.Future[None]] = {}
        self._told = _Told(door.facts)

    async def admit(self, request: Request, route: Route) -> Caller:
        """Return who calls; see the protocol."""
        keys, tokens = values_of(request.scope, b"x-api-key"), values_of(request.scope, b"authorization")
        caller = self._authenticator.recognised(keys[0]) if len(keys) == 1 and not tokens else None
        if caller is None:
            caller = await self._caller(presented(keys, tokens))
        if route.lets_in(caller.scopes):
            return caller
        self._told.refused("wrong_scope")
        more = {"WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope"'}
        raise Problem("forbidden", f"this needs a credential with the scope `{route.needs}`", more)

    def problem(self, denied: Denied) -> Problem:
        """Return the one answer to whatever was wrong, and count what it was."""
        self._told.refused(denied.code)
        return Problem(
            "unauthenticated",
            "send one valid credential: `X-API-Key: KEY`, or `Authorization: Bearer ACCESS_TOKEN`",
            {"WWW-Authenticate": _CHALLENGE},
        )

    def catch_up(self) -> None:
        """Begin, in threads, what is due: last uses are handed over on a quiet server too."""
        for soon in self._authenticator.due():
            with suppress(Transient):  # pushed out of memory meanwhile: whoever needs it asks
                self._reading(soon)

    async def close(self) -> None:
        """Wait for what is being read, and tell what is left to tell; the process ends."""
        if self._readings:
            await asyncio.wait(self._readings.values(), timeout=self._door.settings.web.deadline_seconds)
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._door.control_threads, self._authenticator.hand_over)
        except HeadraceError as exc:
            self._told.failed(Missing("used", ""), exc)
        self._told.tell()

    async def _caller(self, shown: Presented) -> Caller:
        for _ in range(_ROUNDS):
            found = self._authenticator.resolved(shown)
            self.catch_up()
            if isinstance(found, Caller):
                return found
            try:
                await asyncio.wait_for(
                    asyncio.shield(self._reading(found)), self._door.settings.web.deadline_seconds
                )
            except (HeadraceError, TimeoutError) as exc:
                bridged = self._authenticator.resolved(
                    shown
                )  # the store has failed, and what was known may do
                if isinstance(bridged, Caller):
                    return bridged
                raise _cannot_tell() from exc
        raise _cannot_tell()

    def _reading(self, missing: Missing) -> asyncio.Future[None]:
        """Return the reading of something: one, however many wait for it."""
        under_way = self._readings.get(missing)
        if under_way is not None:
            return under_way
        loop = asyncio.get_running_loop()
        work = self._authenticator.reading(missing)
        reading = self._readings[missing] = loop.run_in_executor(self._door.control_threads, work)
        reading.add_done_callback(lambda done: self._read(missing, done))
        return reading

    def _read(self, missing: Missing, done: asyncio.Future[None]) -> None:
        del self._readings[missing]
        failure = None if done.cancelled() else done.exception()
        if isinstance(failure, HeadraceError):
            self._told.failed(missing, failure)


def gate_of(door: FrontDoor) -> CredentialGate:
    """Return what lets requests in."""
    if door.authenticator is None:
        raise ConfigProblem("this process has no store of credentials; see control.url")
    return CredentialGate(door, door.authenticator)


class _Told:
    """Counts what happened, and tells it some seconds later: no request makes a line of its own."""

    def __init__(self, facts: FactSink) -> None:
        self._facts = facts
        self._codes, self._calls = Counter[str](), Counter[str]()
        self._error = ""
        self._later: asyncio.TimerHandle | None = None

    def refused(self, code: str) -> None:
        self._codes[code] += 1
        self._tell_later()

    def failed(self, missing: Missing, error: Exception) -> None:
        self._calls[missing.what] += 1
        self._error = f"{type(error).__name__}: {error}"
        self._tell_later()

    def _tell_later(self) -> None:
        if self._later is None:
            self._later = asyncio.get_running_loop().call_later(TELL_EVERY_SECONDS, self.tell)

    def tell(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._codes:
            self._facts(CredentialsRefused(codes=dict(self._codes)))
        if self._calls:
            self._facts(LookUpsFailed(calls=dict(self._calls), error=self._error))
        self._codes.clear()
        self._calls.clear()


def _cannot_tell() -> Problem:
    return unavailable("credentials cannot be checked at the moment; try again")
