"""One seed of the replay simulator: loaders, senders and processors at once, every fault chosen by the seed."""

from collections.abc import Callable
from random import Random
from typing import Any

from tests.sim.actors import Actors
from tests.sim.invariants import ViolatedError
from tests.sim.replay_guards import NO_REPLAY_GUARD, ReplayGuard
from tests.sim.replay_world import SimYard
from tests.sim.run import Outcome

_MAX_ACTORS = 8
_CHAOS_STEPS = 400
_ROUNDS = 8  # of resuming and draining, until every job is done
_REPLAY = ("days.", "queue.", "jobs.", "ledger.commit", "ledger.open")
_RARE = ("jobs.freeze", "days.put_newer")  # once for each job or chunk, among many reads


class ReplayScheduler(Actors):
    """Runs loaders, senders and processors."""

    def __init__(self, random: Random, yard: SimYard) -> None:
        super().__init__(random, yard, _REPLAY, _RARE)
        self._yard = yard
        self._loaders, self._hurry = random.choice(((1, 0.0), (1, 0.0), (6, 0.8)))

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
            self.end()

    def _chaos(self) -> None:
        random, yard = self._random, self._yard
        self._step += 1
        if len(self._actors) < _MAX_ACTORS and random.random() < 0.1 * self._loaders:
            self._start(*self._anybody())
        if random.random() < 0.06:
            self._say("queue", yard.act())
        if self._delayed and random.random() < 0.1:
            self._arrive(self._delayed.pop(random.randrange(len(self._delayed))))
        awake = self._awake()
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

    # the end ---------------------------------------------------------------------------------------------

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
