"""Actors of any kind: one greenlet each, one effect at a time, its fate chosen by the seed.

The simulators of replay and of redrive say who there is, and what happens at the end.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Protocol, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from pipeline.core.errors import HeadraceError, OutcomeUnknown, Transient
from tests.fakes.clock import SteppedClock
from tests.fakes.watched import Effect
from tests.sim.invariants import Invariant, ViolatedError

T = TypeVar("T")
_FATES = ("crash before", "crash after", "lose answer", "fail", "suspend", "tear", "delay")
_MAX_STEPS = 4_000  # of one actor without a fault
_MORE_FAULTS = 3
_RARE_FAULTS = 20


class ActorsWorld(Protocol):
    """What actors work on: its clock, and what is looked at after each effect."""

    @property
    def clock(self) -> SteppedClock:
        """Return the clock of everybody."""
        ...

    def after(self, effect: str) -> None:
        """Look at what an effect did; raises ViolatedError."""
        ...


class Actor:
    """One greenlet and the effect it waits for."""

    def __init__(self, name: str, run: Callable[[], Any]) -> None:
        self.name, self.kind, self.greenlet = name, name.rstrip("0123456789"), greenlet(run)
        self.pending: Effect[Any] | None = None
        self.wake_at = 0


class Actors:
    """Runs actors one effect at a time.

    Args:
        random: of the seed.
        world: what they work on.
        heart: names of effects, or their beginnings, that meet more faults.
        rare: names of effects that happen once among many others, and meet more faults still.
    """

    def __init__(
        self, random: Random, world: ActorsWorld, heart: tuple[str, ...], rare: tuple[str, ...] = ()
    ) -> None:
        self._random, self._world, self._heart, self._rare = random, world, heart, rare
        self._hub = getcurrent()
        self._actors: list[Actor] = []
        self._delayed: list[Effect[Any]] = []
        self._faults = tuple(fate for fate in _FATES if random.random() < 0.7)
        self._rate = random.choice((0.0, 0.02, 0.06))
        self._step = self._started = 0
        self.history: list[str] = []

    def end(self) -> None:
        """Let go of all actors."""
        for actor in list(self._actors):
            self._kill(actor)

    def _awake(self) -> list[Actor]:
        return [one for one in self._actors if one.wake_at <= self._step]

    # one effect ------------------------------------------------------------------------------------------

    def _start(self, kind: str, run: Callable[[], Any]) -> Actor:
        self._started += 1
        actor = Actor(f"{kind}{self._started}", run)
        self._actors.append(actor)
        self._say(actor.name, "starts")
        self._resume(actor, actor.greenlet.switch)
        return actor

    def _perform(self, effect: Effect[T]) -> T:
        answer: T = self._hub.switch(effect)
        return answer

    def _advance(self, actor: Actor, *, faults: bool) -> None:
        effect = actor.pending
        if effect is None:
            raise AssertionError(f"{actor.name} waits for nothing")
        fate = self._fate(effect) if faults else "go"
        if fate == "suspend":
            actor.wake_at = self._step + self._random.choice((10, 60, 10**9))
            self._say(actor.name, f"{effect.name} | suspended before it")
        elif fate == "crash before":
            self._say(actor.name, f"{effect.name} | crashes before it")
            self._kill(actor)
        elif fate == "fail":
            self._say(actor.name, f"{effect.name} | fails")
            self._throw(actor, Transient(f"{effect.name} failed"))
        else:
            self._act(actor, effect, fate)

    def _fate(self, effect: Effect[Any]) -> str:
        often = _RARE_FAULTS if effect.name in self._rare else _MORE_FAULTS
        if self._random.random() >= self._rate * (often if effect.name.startswith(self._heart) else 1):
            return "go"
        possible = [
            fate
            for fate in self._faults
            if (fate != "tear" or effect.torn is not None)
            and (fate != "delay" or effect.lost is OutcomeUnknown)
            and (fate != "lose answer" or effect.lost is not None)
            and (fate != "fail" or effect.name != "clock.pause")
        ]
        return self._random.choice(possible) if possible else "go"

    def _act(self, actor: Actor, effect: Effect[Any], fate: str) -> None:
        """Let an effect take place, or a part of it, or later; then the actor hears of it, or does not."""
        answer: Any = None
        try:
            if fate == "delay":
                self._delayed.append(effect)
            elif fate == "tear" and effect.torn is not None:
                effect.torn(range(self._random.randint(0, effect.parts)))
                self._world.after(effect.name)
            else:
                answer = self._made(effect)
        except HeadraceError as exc:
            self._say(actor.name, f"{effect.name} -> {type(exc).__name__}")
            self._throw(actor, exc)
            return
        if fate == "go":
            self._say(actor.name, f"{effect.name} -> {_brief(answer)}")
            self._resume(actor, lambda: actor.greenlet.switch(answer))
            return
        self._say(actor.name, f"{effect.name} -> {_brief(answer)} | {fate}")
        if fate == "crash after" or effect.lost is None:
            self._kill(actor)
        else:
            self._throw(actor, effect.lost(f"{effect.name}: no answer"))

    def _made(self, effect: Effect[T]) -> T:
        answer = effect.act()
        self._world.after(effect.name)
        return answer

    def _arrive(self, effect: Effect[Any]) -> None:
        try:
            self._say("network", f"{effect.name} arrives -> {_brief(self._made(effect))}")
        except HeadraceError as exc:
            self._say("network", f"{effect.name} arrives -> {type(exc).__name__}")

    def _throw(self, actor: Actor, error: HeadraceError) -> None:
        self._resume(actor, lambda: actor.greenlet.throw(error))

    def _resume(self, actor: Actor, resume: Callable[[], Any]) -> None:
        try:
            found = resume()
        except (Transient, OutcomeUnknown) as exc:
            self._say(actor.name, f"gives up: {exc}")
            self._actors.remove(actor)
        except (HeadraceError, LookupError, ValueError, TypeError, AttributeError) as exc:
            raise ViolatedError(Invariant.UNBROKEN, f"{actor.name}: {type(exc).__name__}: {exc}") from exc
        else:
            if isinstance(found, Effect):
                actor.pending = found
                return
            self._say(actor.name, "ends in order")
            self._actors.remove(actor)

    def _kill(self, actor: Actor) -> None:
        actor.greenlet.throw(GreenletExit)
        if actor in self._actors:
            self._actors.remove(actor)

    # the end ---------------------------------------------------------------------------------------------

    def _alone(self, kind: str, run: Callable[[], Any]) -> None:
        self._to_its_end(self._start(kind, run))

    def _to_its_end(self, actor: Actor) -> None:
        for _ in range(_MAX_STEPS):
            if actor not in self._actors:
                return
            self._step += 1
            if actor.pending is not None and actor.pending.name == "clock.pause":
                self._world.clock.advance(10)
            self._advance(actor, faults=False)
        raise ViolatedError(Invariant.DRAINS, f"{actor.name} never comes to its end")

    def _aftermath(self) -> None:
        """What was sent long ago arrives, and zombies wake."""
        while self._delayed:
            self._arrive(self._delayed.pop(0))
        for actor in list(self._actors):
            self._to_its_end(actor)

    def _say(self, who: str, what: str) -> None:
        self.history.append(f"{len(self.history) + 1:4d}  {who:12} {what}")


def _brief(answer: object) -> str:
    if isinstance(answer, list):
        return f"{len(answer)} found"
    text = str(answer)
    return text if len(text) < 60 else f"{type(answer).__name__}"
