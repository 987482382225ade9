"""The same rules as a Hypothesis state machine: it chooses each step itself, and shrinks a breach to the few that matter."""

from dataclasses import replace
from random import Random
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from pipeline.core.segment import CutLimits
from pipeline.flows.load import LoadLimits
from pipeline.flows.window import WindowLimits
from tests.sim.guards import NONE, Guard
from tests.sim.oracle import check
from tests.sim.scenario import draw
from tests.sim.scheduler import Scheduler
from tests.sim.workers import Worker
from tests.sim.world import World

_MAX_WORKERS = 4
_MAX_RECORDS = 12
_MAX_SHARDS = 6
_ANY = st.integers(0, 11)
_LIMITS = LoadLimits(CutLimits(max_rows=6), WindowLimits(window_us=600_000_000, max_ids=30))
_QUIET = replace(
    draw(Random(0)),
    limits=_LIMITS,
    deployed_limits=LoadLimits(CutLimits(max_rows=2), _LIMITS.window),
    streams=1,
    shards=1,
    records=0,
    days=2,
    repeats=0.4,
    refusals=0.1,
    jitter_us=0,
    reread_rate=0.0,
    producers=0,
    deploys=0,
    news=0.2,
    deadly=0.0,
)


class BreachError(AssertionError):
    """Something did not hold at the end."""


class PipelineMachine(RuleBasedStateMachine):
    """Workers, streams and stores; every rule is one thing that may happen.

    `steps` is what the last run did: after a failure, the shortest one found.
    """

    guard: ClassVar[Guard] = NONE
    steps: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self._switches = self.guard.off()
        self._switches.__enter__()
        self._world = World(Random(0), _QUIET, self.guard)
        self._run = Scheduler(Random(0), self._world)
        self._produced = 0
        type(self).steps = self._run.history

    def _worker(self, index: int) -> Worker:
        return self._run.workers[index % len(self._run.workers)]

    def _some_work(self) -> bool:
        return bool(self._run.workers)

    @initialize()
    def begin(self) -> None:
        """Begin with a worker and a record, or there is nothing to break."""
        self.produce(0)
        self._run.start(self._world.ready()[0])

    @precondition(lambda self: self._produced < _MAX_RECORDS)
    @rule(shard=_ANY)
    def produce(self, shard: int) -> None:
        """A record of some units comes in; some ids come again."""
        self._produced += 1
        shards = self._world.open_shards()
        self._run.happen(self._world.produce(shards[shard % len(shards)]))

    @precondition(lambda self: len(self._run.workers) < _MAX_WORKERS and self._world.ready())
    @rule(shard=_ANY)
    def start(self, shard: int) -> None:
        """A worker starts, perhaps where there is one: neither knows of the other."""
        ready = self._world.ready()
        self._run.start(ready[shard % len(ready)])

    @precondition(_some_work)
    @rule(worker=_ANY, order=st.sampled_from(("read", "cut", "stop")), effects=st.integers(1, 30))
    def go_on(self, worker: int, order: str, effects: int) -> None:
        """A worker, perhaps one that slept for long, goes on for some effects; it reads or cuts when it is free to."""
        chosen = self._worker(worker)
        if chosen.life is not None:
            chosen.life.order = order
        for done in range(effects):
            free = chosen.pending is not None and chosen.pending.name == "order"
            if chosen not in self._run.workers or (free and done):
                return
            self._run.meet(chosen, "go")

    @precondition(_some_work)
    @rule(
        worker=_ANY,
        fate=st.sampled_from(("crash before", "crash after", "lose answer", "fail", "tear", "delay")),
    )
    def meet(self, worker: int, fate: str) -> None:
        """A worker's next effect meets a fault."""
        chosen = self._worker(worker)
        if chosen.pending is not None and chosen.pending.name not in {"order", "clock.pause"}:
            self._run.meet(chosen, fate)

    @precondition(lambda self: self._run.on_their_way)
    @rule(which=_ANY)
    def arrive(self, which: int) -> None:
        """What was sent long ago takes place."""
        self._run.arrive(which % self._run.on_their_way)

    @rule(what=st.sampled_from(("reshard", "seal", "recreate", "deploy", "time")))
    def happen(self, what: str) -> None:
        """Something happens outside."""
        if len(self._world.shards) < _MAX_SHARDS or what not in {"reshard", "recreate"}:
            self._run.happen(self._world.let(what))

    def teardown(self) -> None:
        """Whatever happened: drained, everything is there once."""
        try:
            self._run.finish()
            violations = check(self._world)
        finally:
            self._run.end()
            self._switches.__exit__(None, None, None)
        if violations:
            raise BreachError("\n".join(map(str, violations)))
