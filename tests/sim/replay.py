"""One seed of the replay simulator: loaders, senders and processors at once, every fault chosen by the seed."""

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from pipeline.core.errors import HeadraceError, OutcomeUnknown, Transient
from tests.fakes.watched import Effect
from tests.sim.invariants import Invariant, ViolatedError
from tests.sim.replay_guards import NO_REPLAY_GUARD, ReplayGuard
from tests.sim.replay_world import SimYard
from tests.sim.run import Outcome

T = TypeVar("T")
_FATES = ("crash before", "crash after", "lose answer", "fail", "suspend", "tear", "delay")
_MAX_ACTORS = 8
_CHAOS_STEPS = 400
_MAX_STEPS = 4_000  # of one actor without a fault
_ROUNDS = 8  # of resuming and draining, until every job is done
_REPLAY = ("days.", "queue.", "jobs.", "ledger.commit", "ledger.open")
_MORE_FAULTS = 3


class _Actor:
    """One greenlet and the effect it waits for."""

    def __init__(self, name: str, run: Callable[[], Any]) -> None:
        self.name, self.kind, self.greenlet = name, name.rstrip("0123456789"), greenlet(run)
        self.pending: Effect[Any] | None = None
        self.wake_at = 0


class ReplayScheduler:
    """Runs actors one effect at a time."""

    def __init__(self, random: Random, yard: SimYard) -> None:
        self._random, self._yard = random, yard
        self._hub = getcurrent()
        self._actors: list[_Actor] = []
        self._delayed: list[Effect[Any]] = []
        self._faults = tuple(fate for fate in _FATES if random.random() < 0.7)
        self._rate = random.choice((0.0, 0.02, 0.06))
        self._loaders, self._hurry = random.choice(((1, 0.0), (1, 0.0), (6, 0.8)))
        self._step = self._started = 0
        self.history: list[str] = []

    def run(self) -> None:
        """Let everything go wrong for a while, then let every job come to its end.

        Raises:
            ViolatedError: an invariant broke on the way.
        """
        try:
            self._alone("loader", lambda: self._yard.fill(self._perform, 0))
            for _ in range(_CHAOS_STEPS * (1 + (self._loaders > 1))):
                self._chaos()
            self._say("-", "no more faults: every job is resumed and drained")
            self._drain()
            self._aftermath()
            self._drain()
        finally:
            for actor in list(self._actors):
                self._kill(actor)

    def _chaos(self) -> None:
        random, yard = self._random, self._yard
        self._step += 1
        if len(self._actors) < _MAX_ACTORS and random.random() < 0.1 * self._loaders:
            self._start(*self._anybody())
        if random.random() < 0.06:
            self._say("queue", yard.act())
        if self._delayed and random.random() < 0.1:
            self._arrive(self._delayed.pop(random.randrange(len(self._delayed))))
        awake = [one for one in self._actors if one.wake_at <= self._step]
        if awake:
            busy = [one for one in awake if one.kind == "loader"] if random.random() < self._hurry else []
            self._advance(random.choice(busy or awake), faults=True)

    def _anybody(self) -> tuple[str, Callable[[], Any]]:
        random, yard, perform = self._random, self._yard, self._perform
        jobs = [job.id for job in yard.jobs.newest() if job.state != "done"]
        if jobs and random.random() < 0.15:
            job = random.choice(jobs)
            return "resumer", lambda: yard.go_on(perform, job)
        number = random.randrange(len(yard.lineages))
        return random.choice(
            (
                *[("loader", lambda: yard.fill(perform, number))] * self._loaders,
                *[("sender", lambda: yard.begin(perform))] * (1 + self._loaders // 4),
                ("processor", lambda: yard.work(perform, drain=False)),
                ("processor", lambda: yard.work(perform, drain=False)),
            )
        )

    # one effect ------------------------------------------------------------------------------------------

    def _start(self, kind: str, run: Callable[[], Any]) -> _Actor:
        self._started += 1
        actor = _Actor(f"{kind}{self._started}", run)
        self._actors.append(actor)
        self._say(actor.name, "starts")
        self._resume(actor, actor.greenlet.switch)
        return actor

    def _perform(self, effect: Effect[T]) -> T:
        answer: T = self._hub.switch(effect)
        return answer

    def _advance(self, actor: _Actor, *, faults: bool) -> None:
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
        rare = effect.name in {
            "jobs.freeze",
            "days.put_newer",
        }  # once for each job or chunk, among many reads
        often = 20 if rare else _MORE_FAULTS
        if self._random.random() >= self._rate * (often if effect.name.startswith(_REPLAY) else 1):
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

    def _act(self, actor: _Actor, effect: Effect[Any], fate: str) -> None:
        """Let an effect take place, or a part of it, or later; then the actor hears of it, or does not."""
        answer: Any = None
        try:
            if fate == "delay":
                self._delayed.append(effect)
            elif fate == "tear" and effect.torn is not None:
                effect.torn(range(self._random.randint(0, effect.parts)))
                self._yard.after(effect.name)
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
        self._yard.after(effect.name)
        return answer

    def _arrive(self, effect: Effect[Any]) -> None:
        try:
            self._say("network", f"{effect.name} arrives -> {_brief(self._made(effect))}")
        except HeadraceError as exc:
            self._say("network", f"{effect.name} arrives -> {type(exc).__name__}")

    def _throw(self, actor: _Actor, error: HeadraceError) -> None:
        self._resume(actor, lambda: actor.greenlet.throw(error))

    def _resume(self, actor: _Actor, resume: Callable[[], Any]) -> None:
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

    def _kill(self, actor: _Actor) -> None:
        actor.greenlet.throw(GreenletExit)
        if actor in self._actors:
            self._actors.remove(actor)

    # the end ---------------------------------------------------------------------------------------------

    def _alone(self, kind: str, run: Callable[[], Any]) -> None:
        self._to_its_end(self._start(kind, run))

    def _to_its_end(self, actor: _Actor) -> None:
        for _ in range(_MAX_STEPS):
            if actor not in self._actors:
                return
            self._step += 1
            if actor.pending is not None and actor.pending.name == "clock.pause":
                self._yard.clock.advance(10)
            self._advance(actor, faults=False)
        raise ViolatedError(Invariant.DRAINS, f"{actor.name} never comes to its end")

    def _drain(self) -> None:
        """Resume what is not done, as an operator does, and process everything."""
        for actor in [one for one in self._actors if self._random.random() < 0.3]:
            self._kill(actor)
        for _ in range(_ROUNDS):
            left = [job.id for job in self._yard.jobs.newest() if job.state != "done"]
            if not left and not self._yard.queue.waiting:
                return
            for job in left:
                self._alone("resumer", lambda job=job: self._yard.go_on(self._perform, job))  # type: ignore[misc]
            self._alone("processor", lambda: self._yard.work(self._perform, drain=True))

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


def simulate_replay(seed: int, guard: ReplayGuard = NO_REPLAY_GUARD) -> Outcome:
    """Run one seed; the same seed gives the same history every time."""
    random = Random(seed)
    with guard.off():
        yard = SimYard(random, guard)
        scheduler = ReplayScheduler(random, yard)
        try:
            scheduler.run()
            violations = yard.check()
        except ViolatedError as broken:
            violations = [broken.violation]
    return Outcome(seed, guard.name, None, violations, scheduler.history)
