"""Who goes on, and what happens to each effect: all of it chosen by the seed."""

from collections.abc import Callable
from random import Random
from typing import Any, TypeVar

from greenlet import GreenletExit, getcurrent, greenlet

from pipeline.core.errors import HeadraceError, OutcomeUnknown, Transient
from pipeline.ports.ledger import Opening
from pipeline.ports.stream import Batch
from tests.fakes.watched import Effect
from tests.sim.invariants import Invariant, ViolatedError
from tests.sim.producers import ProducerLife
from tests.sim.trouble import watch_note
from tests.sim.workers import NEVER, SOON, Life, Worker
from tests.sim.world import Shard, World

T = TypeVar("T")
_DRIVERS = ("reader", "reader", "checkpoint", "apart", "apart checkpoint", "kcl", "kcl")
_SERVICES = ("ledger", "objects", "manifest", "index", "aggregates", "stream", "lease", "receipts")
_MAX_WORKERS = 6
_MAX_CHAOS_STEPS = 450
_MAX_DRAIN_STEPS = 1_500
_WORLD_RATE = 0.2
_ARRIVAL_RATE = 0.15
_DECISIVE = (
    "ledger.plan",
    "ledger.commit",
    "manifest.put_all",
    "index.put_all",
    "aggregates.put_newer",
    "stream.put",
    "receipts.put",
)  # rare among reads and puts, and the heart of it
_MORE_FAULTS = 4


class Scheduler:
    """Runs workers one effect at a time; `history` is the shared action log."""

    def __init__(self, random: Random, world: World) -> None:
        self._random, self._world = random, world
        self._hub = getcurrent()
        self._workers: list[Worker] = []
        self._delayed: list[tuple[str, Effect[Any]]] = []
        self._drained: set[str] = set()
        self._throttled: dict[str, int] = {}
        self._producers_left = world.scenario.producers
        self._step = self._started = 0
        self.history: list[str] = []

    def run(self) -> None:
        """Let everything go wrong for a while, then let fresh workers load what is left.

        Raises:
            ViolatedError: an invariant broke on the way.
        """
        try:
            self._chaos()
            self.finish()
        finally:
            self.end()

    def finish(self) -> None:
        """No faults any more: fresh workers load what is left, then zombies wake and late requests arrive."""
        self._end_producers()
        self._world.draining = True
        self._say("-", "no more faults: fresh workers drain")
        self._drain()
        self._aftermath()

    def end(self) -> None:
        """Let go of all workers; call once nothing more is to run."""
        for worker in list(self._workers):
            self._kill(worker)

    # one step at a time, for whoever chooses himself -----------------------------------------------------

    @property
    def workers(self) -> list[Worker]:
        """Return the workers that live."""
        return self._workers

    @property
    def on_their_way(self) -> int:
        """Return how many effects were sent and have not arrived."""
        return len(self._delayed)

    def start(self, shard: Shard) -> None:
        """Start a worker that does what `Worker.life` is told to."""
        self._start(shard, driver="obey")

    def meet(self, worker: Worker, fate: str) -> None:
        """Let a worker's next effect meet its fate."""
        if worker.pending is not None and _possible(worker.pending, fate):
            self._meet(worker, worker.pending, fate)

    def happen(self, what: str) -> None:
        """Note what somebody let happen in the world."""
        self._say("world", what)

    def arrive(self, index: int) -> None:
        """Let an effect arrive that was sent long ago."""
        self._arrive(index)

    # by the seed -----------------------------------------------------------------------------------------

    def _chaos(self) -> None:
        quiet_steps = self._random.randint(10, 60)
        while quiet_steps and self._step < _MAX_CHAOS_STEPS:
            self._step += 1
            quiet_steps -= self._world.quiet and not self._producers_left
            self._staff()
            if self._random.random() < _WORLD_RATE:
                self._happen()
            if self._delayed and self._random.random() < _ARRIVAL_RATE:
                self._arrive(self._random.randrange(len(self._delayed)))
            awake = self._awake()
            if awake:
                self._advance(self._random.choice(awake), faults=True)

    def _happen(self) -> None:
        """One thing happens outside the workers."""
        self._say("world", self._world.act())
        random, scenario = self._random, self._world.scenario
        if random.random() < scenario.throttle_rate:
            service, steps = random.choice(_SERVICES), random.choice((5, 30, 200))
            self._throttled[service] = self._step + steps
            self._say("world", f"{service} is throttled for {steps} steps")
        clocks = [(worker.name, worker.life.clock) for worker in self._workers if worker.life is not None]
        if clocks and random.random() < scenario.clock_rate:
            (name, clock), seconds = random.choice(clocks), random.choice(scenario.clock_errors)
            clock.wrong_us = seconds * 1_000_000
            self._say("world", f"the wall clock of {name} is {seconds} s wrong from now on")
        if self._random.random() < self._world.scenario.fault_rate / 4:
            self._say("world", "every worker dies")
            for worker in self._awake():
                self._kill(worker)

    def _staff(self) -> None:
        """Start a worker where none is awake, and now and then where one is."""
        if len(self._workers) >= _MAX_WORKERS:
            return
        if self._producers_left and self._random.random() < 0.05:
            self._producers_left -= 1
            self._start_producer()
        busy = {worker.shard for worker in self._awake()}
        for shard in self._world.ready():
            rate = self._world.scenario.steal_rate if shard in busy else 0.5
            if self._random.random() < rate:
                self._start(shard)

    def _start(self, shard: Shard, *, fresh: bool = False, driver: str = "") -> None:
        self._started += 1
        driver = driver or self._random.choice(_DRIVERS)
        name = f"w{self._started}"
        life = Life(self._world, shard, name, driver, self._perform)
        worker = Worker(name, shard, driver, greenlet(life.run), fresh=fresh, life=life)
        self._workers.append(worker)
        code = "later" if life.code.version else "earlier"
        self._say(
            name,
            f"starts on {shard.lineage.name} ({shard.lineage.short}), driver: {driver}, the {code} code",
        )
        self._resume(worker, worker.greenlet.switch)

    def _start_producer(self) -> None:
        self._started += 1
        name = f"prod{self._started}"
        life = ProducerLife(self._world, name, self._perform)
        worker = Worker(name, None, "producer", greenlet(life.run))
        self._workers.append(worker)
        self._say(name, "starts to produce")
        self._resume(worker, worker.greenlet.switch)

    def _end_producers(self) -> None:
        """Nothing may be produced while all is drained: producers come to their end, or die."""
        for one in [one for one in self._delayed if one[1].name.startswith("stream.put")]:
            self._arrive(self._delayed.index(one))
        for worker in [one for one in self._workers if one.shard is None]:
            if self._random.random() < 0.3:
                self._say(worker.name, "dies")
                self._kill(worker)
            self._to_its_end(worker)

    def _perform(self, effect: Effect[T]) -> T:
        answer: T = self._hub.switch(effect)
        return answer

    def _awake(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.wake_at <= self._step]

    # one effect ------------------------------------------------------------------------------------------

    def _advance(self, worker: Worker, *, faults: bool) -> None:
        effect = worker.pending
        if effect is None:
            raise AssertionError(f"{worker.name} waits for nothing")
        self._meet(worker, effect, self._fate(effect) if faults else "go")

    def _meet(self, worker: Worker, effect: Effect[Any], fate: str) -> None:
        if fate == "go":
            self._go(worker, effect)
        elif fate == "suspend":
            worker.wake_at = (
                NEVER if self._random.random() < 0.2 else self._step + self._random.randint(3, 90)
            )
            self._say(worker.name, f"{effect.name} | suspended before it")
        elif fate in {"fail", "throttled"}:
            self._say(worker.name, f"{effect.name} | {'fails' if fate == 'fail' else fate}")
            self._raise(worker, Transient(f"{effect.name} failed"))
        elif fate == "crash before":
            self._say(worker.name, f"{effect.name} | crashes before it")
            self._kill(worker)
        else:
            self._half(worker, effect, fate)

    def _half(self, worker: Worker, effect: Effect[Any], fate: str) -> None:
        """Faults after which the effect may have happened."""
        if fate == "delay":
            self._say(worker.name, f"{effect.name} | answer lost, it may happen later")
            self._delayed.append((worker.name, effect))
        elif fate == "tear" and effect.torn is not None:
            count = self._random.randrange(effect.parts + 1)
            parts = sorted(self._random.sample(range(effect.parts), count))
            self._say(worker.name, f"{effect.name} | torn: {count} of {effect.parts} took place")
            effect.torn(parts)
            self._world.monitor.after(effect.name)
        else:
            try:
                answer = _short(self._act(effect))
            except HeadraceError as exc:
                answer = type(exc).__name__
            self._say(worker.name, f"{effect.name} -> {answer} | {fate}")
        if effect.lost is None or fate == "crash after" or (fate == "tear" and self._random.random() < 0.5):
            self._kill(worker)
        else:
            self._raise(worker, effect.lost(f"{effect.name}: no answer"))

    def _fate(self, effect: Effect[Any]) -> str:
        if self._throttled.get(effect.name.split(".")[0], 0) > self._step:
            return "throttled"
        decisive = effect.name.startswith(_DECISIVE)
        if self._random.random() >= self._world.scenario.fault_rate * (_MORE_FAULTS if decisive else 1):
            return "go"
        possible = [fate for fate in self._world.scenario.faults if _possible(effect, fate)]
        return self._random.choice(possible) if possible else "go"

    def _go(self, worker: Worker, effect: Effect[Any]) -> None:
        try:
            answer = self._act(effect)
        except HeadraceError as exc:
            self._say(worker.name, f"{effect.name} -> {type(exc).__name__}")
            self._raise(worker, exc)
            return
        if effect.name == "clock.pause":
            worker.wake_at = self._step + self._random.randint(1, 12)
        self._say(worker.name, f"{effect.name} -> {_short(answer)}")
        self._resume(worker, lambda: worker.greenlet.switch(answer))

    def _act(self, effect: Effect[T]) -> T:
        answer = effect.act()
        self._world.monitor.after(effect.name)
        watch_note(self._world, effect.name)
        return answer

    def _arrive(self, index: int) -> None:
        name, effect = self._delayed.pop(index)
        try:
            answer = _short(self._act(effect))
        except HeadraceError as exc:
            answer = type(exc).__name__
        self._say("network", f"{effect.name} of {name} arrives -> {answer}")

    def _raise(self, worker: Worker, error: HeadraceError) -> None:
        self._resume(worker, lambda: worker.greenlet.throw(error))

    def _resume(self, worker: Worker, resume: Callable[[], Any]) -> None:
        """Let a worker run to its next effect, or to its end."""
        try:
            found = resume()
        except (Transient, OutcomeUnknown) as exc:
            self._say(worker.name, f"gives up: {exc}")
            self._workers.remove(worker)
        except HeadraceError as exc:
            raise ViolatedError(Invariant.AGREEMENT, f"{worker.name}: {type(exc).__name__}: {exc}") from exc
        except (KeyError, ValueError, TypeError, IndexError, AttributeError) as exc:
            raise ViolatedError(Invariant.UNBROKEN, f"{worker.name}: {type(exc).__name__}: {exc}") from exc
        else:
            if isinstance(found, Effect):
                worker.pending = found
                return
            killed = isinstance(found, GreenletExit)
            self._say(worker.name, "is killed by a record" if killed else "ends in order")
            self._workers.remove(worker)
            lost = worker.life is not None and worker.life.lost
            if worker.fresh and not killed and not lost and worker.shard is not None:
                self._drained.add(worker.shard.lineage.name)

    def _kill(self, worker: Worker) -> None:
        worker.greenlet.throw(GreenletExit)
        if worker in self._workers:
            self._workers.remove(worker)

    # the end ---------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """No faults any more; each zombie goes on now, or after everything else, or never."""
        for worker in list(self._workers):
            worker.wake_at = self._random.choice((SOON, SOON, NEVER))
            if self._random.random() < 0.2:
                self._kill(worker)
        for _ in range(_MAX_DRAIN_STEPS):
            self._step += 1
            owned = {worker.shard for worker in self._workers if worker.fresh}
            for shard in self._world.ready():
                if shard not in owned and shard.lineage.name not in self._drained:
                    self._start(shard, fresh=True)
            awake = self._awake()
            if not awake:
                if all(worker.wake_at == NEVER for worker in self._workers):
                    return
                continue
            self._advance(self._random.choice(awake), faults=False)
        raise ViolatedError(Invariant.DRAINS, f"still at work after {_MAX_DRAIN_STEPS} steps without a fault")

    def _aftermath(self) -> None:
        """What was sent long ago arrives, and zombies wake after everything is done."""
        while self._delayed:
            self._arrive(0)
        for worker in list(self._workers):
            worker.wake_at = SOON
            self._to_its_end(worker)

    def _to_its_end(self, worker: Worker) -> None:
        for _ in range(_MAX_DRAIN_STEPS):
            if worker not in self._workers:
                return
            self._step += 1
            self._advance(worker, faults=False)
        raise ViolatedError(Invariant.DRAINS, f"{worker.name} never comes to its end")

    def _say(self, who: str, what: str) -> None:
        self.history.append(f"{len(self.history) + 1:4d}  {who:8} {what}")


def _possible(effect: Effect[Any], fate: str) -> bool:
    """True when this may happen to an effect."""
    return (
        (fate != "tear" or effect.torn is not None)
        and (fate != "delay" or effect.lost is OutcomeUnknown)
        and (fate != "lose answer" or effect.lost is not None)
    )


def _short(answer: object) -> str:
    """Return an answer as one readable word or two."""
    if isinstance(answer, Batch):
        return f"{[one.sequence_number for one in answer.records]}{' end' * answer.ended}"
    if isinstance(answer, Opening):
        newest = answer.newest
        return f"{newest.ordinal} {newest.state}" if newest else "nothing"
    if isinstance(answer, bytes):
        return f"{len(answer)} bytes"
    if isinstance(answer, list):
        return str([getattr(one, "ordinal", getattr(one, "short", one)) for one in answer])
    return str(answer)
