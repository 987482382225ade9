"""One shard of the stream, as the child of KCL's MultiLangDaemon: `python -m consumers.kcl`, which the daemon starts.

The daemon owns the lease and delivers records; the ledger owns what is decided. So KCL's checkpoint is only where reading
goes on after a restart: it may lag, never lead, and follows each commit with both of its numbers. Crash-only as the reader:
an unknown error is status 70 and not a swallowed exception, because after a "done" the next checkpoint would pass over what
was lost. Standard output belongs to the protocol alone.
"""

import os
import signal

if __name__ == "__main__":  # before anything else is imported, as an import may print
    # The daemon asks for the end over the pipe: a signal to the whole group must not come first.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _FROM_DAEMON, _TO_DAEMON = os.dup(0), os.dup(1)  # ours alone: neither is inherited
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what anybody prints is log, and not an order to the daemon

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence

from pipeline.startup import light

light()

from consumers.multilang import (
    Daemon,
    Initialize,
    LeaseWasLost,
    Message,
    ProcessRecords,
    ShardHasEnded,
    ShutdownRequested,
    WireRecord,
    to_records,
)
from consumers.process import run, started
from consumers.telemetry import Telemetry
from consumers.watchdog import Watchdog
from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem, HeadraceError, LeaseLost, Transient
from pipeline.core.segment import Lineage, Position
from pipeline.facts import LagMeasured, ShardReleased
from pipeline.flows.load import Loader
from pipeline.flows.read import ReadPorts, Shards
from pipeline.flows.retrying import again
from pipeline.ports.clock import SystemClock
from pipeline.wiring import loader_parts

_NAME = "kcl"
_PATIENCE_SECONDS = 60.0  # for parents that are not ended; far below kcl.timeout_seconds
# Before KCL gives a message up: it would halt Java at once, with every other shard's process, and leave ours hanging.
_EARLIER_SECONDS = 10
# Before the oldest of so many answers, what comes now had not been fetched: polling reads 3 batches ahead, fan-out 10.
_FETCHED_AHEAD = 16
_PIPE_BYTES = 2**20  # a read of the pipe: lines have up to 14 MB


class Child:
    """The life of one shard in this process, from `initialize` to the end of the pipe.

    Args:
        daemon: the line to KCL.
        shards: registers the shard with its parents, and holds it back until they are ended.
        ports: clock and facts.
        make_loader: called once, for the shard's lineage.
        each: called after every message, for the meters.
        watchdog: ends this process when it hangs over one message; by a thread of C, as Python's may be held up.
    """

    def __init__(
        self,
        daemon: Daemon,
        shards: Shards,
        ports: ReadPorts,
        make_loader: Callable[[Lineage], Loader],
        each: Callable[[], None] = lambda: None,
        watchdog: Watchdog | None = None,
    ) -> None:
        self._daemon, self._shards, self._ports, self._make_loader = daemon, shards, ports, make_loader
        self._each, self._watchdog = each, watchdog
        self._shard_id = ""
        self._loader: Loader | None = None  # from `initialize` to the moment the shard is let go of
        self._delivered: Position | None = None
        self._checkpointed: Position | None = None
        self._answered_us: deque[int] = deque(maxlen=_FETCHED_AHEAD)  # when the last messages were dealt with

    def run(self) -> None:
        """Deal with messages until the daemon hangs up; what is collected then and not committed is the next worker's."""
        try:
            for message in self._daemon.messages():
                if self._watchdog:
                    self._watchdog.watch()
                try:
                    self._take(message)
                except LeaseLost:
                    self._let_go("lease lost")
                if self._watchdog:
                    self._watchdog.rest()
                self._each()
                self._answered_us.append(self._ports.clock.now_us())
                self._daemon.done(message)
        except LeaseLost:  # the pipe broke: nobody is left to answer
            pass
        self._let_go("hung up")

    def _take(self, message: Message) -> None:
        if isinstance(message, Initialize):
            self._begin(message)
            return
        if not self._shard_id:
            raise HeadraceError(f"the daemon began with {type(message).__name__} and not with initialize")
        loader = self._loader
        if loader is None:  # let go of: whatever still comes belongs to another worker
            return
        match message:
            case ProcessRecords():
                self._process(loader, message)
            case ShardHasEnded():
                loader.cut("shard end", shard_end=True)
                self._checkpoint(None)  # the one place for it: all that was delivered is committed
                self._let_go("shard end")
            case ShutdownRequested():
                loader.stop()
                self._checkpoint_committed(loader)
                self._let_go("stop")
            case LeaseWasLost():
                self._let_go("lease lost")
            case _:
                raise HeadraceError(f"the daemon sent {type(message).__name__} unasked")

    def _begin(self, message: Initialize) -> None:
        self._shard_id = message.shard_id
        checkpoint = message.checkpoint
        lineage = self._shards.chosen(message.shard_id, _PATIENCE_SECONDS, self._close)
        loader = self._make_loader(lineage)
        covered = loader.start()
        if checkpoint is not None and (covered is None or covered < checkpoint):
            raise ConfigProblem(
                f"KCL would go on after {checkpoint.sequence_number} of shard {message.shard_id}, but the ledger ends at "
                f"{covered.sequence_number if covered else 'nothing'}: the records between would be lost. This kcl.application "
                "has loaded another archive; take a new one, which begins with the oldest record"
            )
        self._loader, self._checkpointed = loader, checkpoint

    def _close(self, lineage: Lineage) -> None:
        """Record the end, and with it the gap, of a shard that expired before it was read: KCL gives it to nobody.

        That it was not listed is no evidence: one answer may lack a shard that lives. Reading it is.

        Raises:
            Transient: it can be read, and so is its own worker's.
        """
        loader, ports = self._make_loader(lineage), self._ports
        reader = ports.stream.reader(lineage.shard_id, loader.start())
        batch = again("read", reader.read, clock=ports.clock, facts=ports.facts)
        if batch.records or not batch.ended:
            self._release(loader, "not expired")
            raise Transient(
                f"shard {lineage.shard_id} was not listed, but can be read: whether shard {self._shard_id} may begin is to be "
                "looked at again"
            )
        loader.cut("shard end", shard_end=True, trimmed=batch.trimmed)
        self._release(loader, "shard end")

    def _process(self, loader: Loader, message: ProcessRecords) -> None:
        records = to_records(message.records)
        if message.millis_behind_latest is not None:
            behind = message.millis_behind_latest / 1_000
            self._ports.facts(LagMeasured(shard_id=self._shard_id, behind_seconds=behind))
        loader.process(records)
        if not records and message.millis_behind_latest == 0 and len(self._answered_us) == _FETCHED_AHEAD:
            loader.caught_up(self._answered_us[0])
        loader.tick()  # time cuts, also when nothing came
        self._checkpoint_committed(loader, message.records)
        if message.records:
            self._delivered = _place(message.records[-1])

    def _checkpoint_committed(self, loader: Loader, records: Sequence[WireRecord] = ()) -> None:
        """Tell KCL how far the ledger is, by the last of what KCL itself has delivered: it knows no other positions.

        What is committed ends in `records`, which came just now, or was delivered whole before them, or is the ledger's
        from before; and of an aggregate that was refused whole the ledger covers parts that KCL may not have.
        """
        committed = loader.committed
        if committed is None:
            return
        reached = bisect_right(records, committed, key=_place)
        position = _place(records[reached - 1]) if reached else self._delivered
        if position is None or position > committed:
            return
        if self._checkpointed is None or self._checkpointed < position:
            self._checkpoint(position)
            self._checkpointed = position

    def _checkpoint(self, position: Position | None) -> None:
        ports = self._ports
        again("checkpoint", lambda: self._daemon.checkpoint(position), clock=ports.clock, facts=ports.facts)

    def _let_go(self, reason: str) -> None:
        """Let go of the shard: the open segment is thrown away, nothing more is written."""
        loader, self._loader = self._loader, None
        if loader is not None:
            self._release(loader, reason)

    def _release(self, loader: Loader, reason: str) -> None:
        lineage = loader.lineage
        self._ports.facts(
            ShardReleased(
                lineage=lineage.short, shard_id=lineage.shard_id, reason=reason, units=loader.pending_units
            )
        )


def _place(record: WireRecord) -> Position:
    return Position(record.sequence_number, record.sub_sequence_number)


def main(settings: Settings, telemetry: Telemetry) -> None:
    """Serve the daemon until it hangs up."""
    clock = SystemClock()
    parts = loader_parts(settings, clock, telemetry.fact, telemetry.span_sink)
    ports = ReadPorts(parts.stream, parts.ports.ledger, clock, telemetry.fact, lambda: False)

    def meter() -> None:
        telemetry.writes(parts.meter.dynamodb_write_units, parts.meter.s3_puts)

    started(settings, telemetry, parts.rules().digest)
    with os.fdopen(_FROM_DAEMON, "rb", _PIPE_BYTES) as source, os.fdopen(_TO_DAEMON, "wb") as sink:
        Child(
            Daemon(source, sink),
            Shards(ports),
            ports,
            lambda lineage: Loader(lineage, parts.rules, parts.limits, parts.ports),
            meter,
            Watchdog(settings.kcl.timeout_seconds - _EARLIER_SECONDS),
        ).run()


if __name__ == "__main__":
    run(_NAME, main, page=None)
