"""Reading a stream with one loader per shard: children after their parents.

`load_shard` is the life of one shard in one worker; `Shards` says which shards may be started now, and holds back one that
somebody else chose too early.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline.core.errors import NotFound, Transient
from pipeline.core.segment import Lineage
from pipeline.facts import FactSink, ParentsAwaited
from pipeline.flows.load import Loader
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.ledger import Ledger
from pipeline.ports.stream import Stream

_LOOK_SECONDS = 2.0  # between two looks at parents that are not ended


@dataclass(frozen=True)
class ReadPorts:
    """What reading needs. `stopping` turns true when the worker is asked to stop."""

    stream: Stream
    ledger: Ledger
    clock: Clock
    facts: FactSink
    stopping: Callable[[], bool]


def load_shard(loader: Loader, ports: ReadPorts, idle_seconds: float, behind: Callable[[int], None]) -> None:
    """Load one shard until it ends or the worker stops; on return everything collected is committed.

    Args:
        loader: of this shard; not yet started.
        ports: the stream and the rest.
        idle_seconds: the pause once everything is read; Kinesis allows five reads a second and shard.
        behind: told after each read how many milliseconds the shard is behind its newest record.
    """
    after = loader.start()
    if loader.ended:
        return
    reader = ports.stream.reader(loader.lineage.shard_id, after)
    while not ports.stopping():
        asked_us = ports.clock.now_us()
        batch = again("read", reader.read, clock=ports.clock, facts=ports.facts)
        loader.process(batch.records, trimmed=batch.trimmed)
        behind(batch.behind_ms)
        if batch.ended:
            loader.cut("shard end", shard_end=True, trimmed=batch.trimmed and not batch.records)
            return
        if not batch.records and batch.behind_ms == 0:
            loader.caught_up(asked_us, trimmed=batch.trimmed)
        if not batch.records or batch.behind_ms == 0:
            loader.tick()
            ports.clock.idle(idle_seconds)
    loader.stop()


class Shards:
    """Which lineages may be loaded now: each once, a child only when all its parents are read to their end.

    Among them those whose shard has expired before its end was committed: to their reader they are ended shards.
    """

    def __init__(self, ports: ReadPorts) -> None:
        self._ports = ports
        self._started: set[str] = set()
        self._listed: set[str] | None = None
        self._gone: list[Lineage] = []  # whose shards have expired
        self._closed: set[str] = set()  # of those, the ones that were read to their end

    def ready(self) -> list[Lineage]:
        """Return the lineages to start now, registering new shards; each is returned once."""
        listed = self._listed_lineages()
        found = list(self._left_open())
        found += [
            lineage
            for lineage in listed.values()
            if lineage.short not in self._started and all(map(self._ended, lineage.parents))
        ]
        self._started |= {lineage.short for lineage in found}
        return found

    def chosen(self, shard_id: str, patience_seconds: float, close: Callable[[Lineage], None]) -> Lineage:
        """Return the lineage of a shard that somebody else (KCL) chose, once all its parents are ended in the ledger.

        Args:
            shard_id: of this stream.
            patience_seconds: how long to wait for parents.
            close: called for lineages whose shards expired before their end was committed: nobody else is given them.

        Raises:
            NotFound: the stream has no such shard.
            Transient: a parent was not ended in time: to begin would mix up order and duplicates.
        """
        ports = self._ports
        deadline = ports.clock.monotonic() + patience_seconds
        while True:
            lineage = self._listed_lineages().get(shard_id)
            if lineage is None:
                raise NotFound(f"stream {ports.stream.name} has no shard {shard_id}: was it made anew?")
            for gone in self._left_open():
                close(gone)
            open_parents = [short for short in lineage.parents if not self._ended(short)]
            if not open_parents:
                return lineage
            ports.facts(ParentsAwaited(lineage=lineage.short, shard_id=shard_id, waiting=len(open_parents)))
            if ports.clock.monotonic() >= deadline:
                raise Transient(
                    f"shard {shard_id} may not begin before its parents {', '.join(open_parents)} are ended in the ledger"
                )
            ports.clock.pause(_LOOK_SECONDS)

    def _listed_lineages(self) -> dict[str, Lineage]:
        """Return the lineages of the stream's shards by shard, parents first; new ones are registered."""
        clock, facts, ledger = self._ports.clock, self._ports.facts, self._ports.ledger
        infos = again("shards", self._ports.stream.shards, clock=clock, facts=facts)
        listed = {info.shard_id for info in infos}
        if listed != self._listed:  # the table of lineages is read whole: not at every look
            self._gone = [one for one in self._registered() if one.shard_id not in listed]
            self._listed = listed
        found: dict[str, Lineage] = {}
        shorts = {one.shard_id: one.short for one in self._gone}
        for info in infos:
            parents = tuple(shorts[parent] for parent in info.parents if parent in shorts)
            lineage = again(
                "register",
                lambda info=info, parents=parents: ledger.register(  # type: ignore[misc]
                    self._ports.stream.name, self._ports.stream.epoch, info.shard_id, parents
                ),
                clock=clock,
                facts=facts,
            )
            found[info.shard_id] = lineage
            shorts[info.shard_id] = lineage.short
        return found

    def _left_open(self) -> Iterator[Lineage]:
        """Yield expired lineages to be closed now, in their order too: a child's gap begins where its parents were read."""
        for one in self._gone:
            if self._is_left_open(one) and all(map(self._ended, one.parents)):
                yield one

    def _registered(self) -> list[Lineage]:
        """Return the lineages of this stream and epoch."""
        ports, prefix = self._ports, f"{self._ports.stream.name}-{self._ports.stream.epoch}-"
        everyone = again("lineages", ports.ledger.lineages, clock=ports.clock, facts=ports.facts)
        return [one for one in everyone if one.name == prefix + one.shard_id]

    def _is_left_open(self, lineage: Lineage) -> bool:
        """True for a shard that expired before it was read to its end: its loader has a gap to record, and its end."""
        if lineage.short in self._started or lineage.short in self._closed:
            return False
        if self._ended(lineage.short):
            self._closed.add(lineage.short)
            return False
        return True

    def _ended(self, short: str) -> bool:
        ports = self._ports
        newest = again("open", lambda: ports.ledger.open(short), clock=ports.clock, facts=ports.facts).newest
        return newest is not None and newest.shard_end and newest.state == "committed"
