"""One seed of the redrive simulator: loaders and redrives at once, every fault chosen by the seed."""

from random import Random

from tests.sim.actors import Actors
from tests.sim.invariants import Invariant, ViolatedError, Violation
from tests.sim.redrive_guards import NO_REDRIVE_GUARD, RedriveGuard
from tests.sim.redrive_world import RedriveYard
from tests.sim.run import Outcome

_MAX_ACTORS = 6
_CHAOS_STEPS = 400
_HEART = ("ledger.plan", "ledger.commit", "ledger.register_redrive", "objects.put", "manifest.put_all")


class RedriveScheduler(Actors):
    """Runs loaders and redrives."""

    def __init__(self, random: Random, yard: RedriveYard) -> None:
        super().__init__(random, yard, _HEART)
        self._yard = yard

    def run(self) -> None:
        """Let everything go wrong for a while, then load and redrive all that is left.

        Raises:
            ViolatedError: an invariant broke on the way.
        """
        try:
            for _ in range(_CHAOS_STEPS):
                self._chaos()
            self._say("-", "no more faults: all is loaded and redriven")
            self._finish()
            self._aftermath()
            self._finish()
            self._alone("last", self._nothing_left)
        finally:
            self.end()

    def _chaos(self) -> None:
        random, yard = self._random, self._yard
        self._step += 1
        if len(self._actors) < _MAX_ACTORS and random.random() < 0.1:
            if random.random() < 0.5:
                self._start("loader", lambda: yard.fill(self._perform))
            else:
                self._start("redrive", lambda: yard.redrive(self._perform))
        if random.random() < 0.06:
            self._say("world", yard.act())
        if self._delayed and random.random() < 0.1:
            self._arrive(self._delayed.pop(random.randrange(len(self._delayed))))
        awake = self._awake()
        if awake:
            self._advance(random.choice(awake), faults=True)

    def _finish(self) -> None:
        for actor in [one for one in self._actors if self._random.random() < 0.3]:
            self._kill(actor)
        self._alone("loader", lambda: self._yard.drain(self._perform))
        self._alone("redrive", lambda: self._yard.redrive(self._perform, everything=True))

    def _nothing_left(self) -> None:
        """Redrive once more: it has nothing to do.

        Raises:
            ViolatedError: it has.
        """
        found = self._yard.redrive(self._perform, everything=True)
        if found.segments or found.redriven:
            raise ViolatedError(Invariant.MARKED, f"one redrive more took in {found.redriven.total()} units")


def simulate_redrive(seed: int, guard: RedriveGuard = NO_REDRIVE_GUARD) -> Outcome:
    """Run one seed; the same seed gives the same history every time."""
    random = Random(seed)
    with guard.off():
        yard = RedriveYard(random, guard)
        scheduler = RedriveScheduler(random, yard)
        violations: list[Violation]
        try:
            scheduler.run()
            violations = list(yard.check())
        except ViolatedError as broken:
            violations = [broken.violation]
    return Outcome(seed, guard.name, None, violations, scheduler.history)
