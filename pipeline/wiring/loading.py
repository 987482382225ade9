"""What judging and loading are made of, and redrives, which load again what was refused."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pipeline.aws.client import unheard
from pipeline.aws.kinesis import KinesisStream
from pipeline.aws.meter import Meter
from pipeline.config import Settings
from pipeline.core.days import HOUR_US
from pipeline.core.event import Limits
from pipeline.core.gap import Keeping
from pipeline.core.rules import Rules, make_rules
from pipeline.core.segment import CutLimits
from pipeline.core.staging import StagedObject
from pipeline.facts import FactSink
from pipeline.flows.load import LoadLimits
from pipeline.flows.redrive import RedrivePorts
from pipeline.flows.rules import StoredRules
from pipeline.flows.window import WindowLimits
from pipeline.flows.write import WritePorts
from pipeline.machine.child_probe import ChildProbe
from pipeline.machine.schema_files import load_envelope, load_schemas
from pipeline.ports.clock import Clock, SystemClock
from pipeline.ports.rules import NewestRules
from pipeline.ports.spans import SpanSink, nowhere
from pipeline.wiring.control import stored_control
from pipeline.wiring.stores import Archive, archive, stream

_HUNT_SHARE = 0.6  # of kcl.timeout_seconds: the rest is for the batch itself, and its commits
_WRITERS = 8  # objects written at once by one worker


def filed_rules(settings: Settings) -> Rules:
    """Return what events are judged by as far as settings and schema files say."""
    events = settings.events
    limits = Limits(
        max_event_bytes=events.max_event_bytes,
        max_depth=events.max_depth,
        max_keys=events.max_keys,
        max_items=events.max_items,
        max_string_bytes=events.max_string_bytes,
        max_future_seconds=events.max_future_minutes * 60,
        max_record_events=events.max_record_events,
        max_inflated_bytes=events.max_inflated_bytes,
        max_inflation=events.max_inflation,
        max_packed_bytes=events.max_packed_bytes,
    )
    schemas = settings.paths.schemas
    return make_rules(load_schemas(schemas), events.tenants, limits, load_envelope(schemas))


def rules(settings: Settings) -> Rules:
    """Return what events are judged by now: settings, schema files, and what the control store adds.

    Raises:
        ConfigProblem: they contradict each other, or the control store refuses us.
        Transient: the control store does not answer.
    """
    stored = stored_control(settings)
    found = StoredRules(filed_rules(settings), stored, SystemClock(), unheard).newest(0)
    if (opened := stored()) is not None:
        opened.close()
    return found


def newest_rules(settings: Settings, clock: Clock, facts: FactSink) -> NewestRules:
    """Return what events are judged by from now on; it has looked once, as `rules` does."""
    found = StoredRules(filed_rules(settings), stored_control(settings, clock), clock, facts)
    found.newest(0)
    return found


@dataclass(frozen=True)
class LoaderParts:
    """What a loading worker is made of."""

    rules: NewestRules
    limits: LoadLimits
    ports: WritePorts
    stream: KinesisStream
    meter: Meter


def loader_parts(settings: Settings, clock: Clock, facts: FactSink, spans: SpanSink = nowhere) -> LoaderParts:
    """Return the parts of a loading worker."""
    stores, source = archive(settings, facts), stream(settings, facts)
    judged_by = newest_rules(settings, clock, facts)
    probe = ChildProbe(judged_by, settings.worker.probe_memory_bytes, settings.worker.probe_seconds)
    return LoaderParts(
        rules=judged_by,
        limits=replace(load_limits(settings), keeping=Keeping(source.retention_us())),
        ports=replace(write_ports(stores, clock, facts), probe=probe, spans=spans),
        stream=source,
        meter=stores.meter,
    )


def load_limits(settings: Settings) -> LoadLimits:
    """Return when segments are cut, and how far duplicates are looked for."""
    segment, duplicates = settings.segment, settings.duplicates
    return LoadLimits(
        CutLimits(
            max_rows=segment.max_rows,
            max_bytes=segment.max_bytes,
            max_age_seconds=segment.max_age_seconds,
            max_idle_seconds=segment.max_idle_seconds,
            max_files=segment.max_files,
        ),
        WindowLimits(int(duplicates.window_hours * HOUR_US), duplicates.max_ids),
        hunt_seconds=settings.kcl.timeout_seconds * _HUNT_SHARE,
    )


def write_ports(stores: Archive, clock: Clock, facts: FactSink) -> WritePorts:
    """Return what deciding segments writes to."""
    pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")

    def each(call: Callable[[StagedObject], None], items: Iterable[StagedObject]) -> None:
        for _ in pool.map(call, items):
            pass

    return WritePorts(
        ledger=stores.ledger,
        objects=stores.objects,
        manifest=stores.manifest,
        index=stores.index,
        aggregates=stores.aggregates,
        clock=clock,
        facts=facts,
        each=each,
    )


def redriving(settings: Settings, facts: FactSink, progress: Callable[[int], None]) -> RedrivePorts:
    """Return what a redrive needs; `progress` is told of units that were looked at."""
    return RedrivePorts(write_ports(archive(settings, facts), SystemClock(), facts), progress)
