"""What a seed decides before anything happens: limits, features and which faults there are."""

from dataclasses import dataclass
from random import Random

from pipeline.core.gap import Keeping
from pipeline.core.segment import CutLimits
from pipeline.flows.load import LoadLimits
from pipeline.flows.window import WindowLimits

FAULTS = ("crash before", "crash after", "lose answer", "fail", "suspend", "tear", "delay")
_DAY_SECONDS = 86_400  # longer than any run: nothing is dropped
_WILD = (-172_800, -172_800, -3_600, -30, 0, 3_600, 172_800)
# What the margin of a note allows beside the disorder of arrivals. A clock further ahead notes what it cannot know, and one
# that is behind sees a gap late (docs/guarantees.md, 11): where these happen no loader is told what the stream keeps.
_WITHIN_MARGIN = (0, 1, 2)
_MARGIN_US = 5_000_000
LEDGER_DISORDER_US = 10_000_000  # the ledger stops looking for young segments at one this much too old


@dataclass(frozen=True)
class Scenario:
    """One seed's world.

    Attributes:
        chunk_records: the loader considers a cut after so many records of one call.
        faults: the kinds of faults that happen.
        fault_rate: how likely one effect is to meet one.
        steal_rate: how likely, per step, a second worker starts on a shard that has one.
        records: how many Kinesis records are produced.
        days: on how many days their events happened.
        jitter_us: arrival times are not quite in stream order.
        lag_rate: how often workers stand still while records arrive and time passes.
        deployed_limits: of workers that run the later code; its rules are others too.
        deploys: 1: at some moment the later code is deployed, worker by worker.
        news: how many events only the later rules accept.
        producers: how many real producers run, with receipts.
        refused_puts: how many records of a PutRecords call the stream refuses.
        throttle_rate: how often a service refuses everything for a while.
        clock_rate: how often a worker's wall clock is wrong from its start, or begins to be.
        clock_errors: by how many seconds.
        reread_rate: how often a read gives records again.
        retention_seconds: how long the stream keeps a record.
        refuses_trimmed: the stream refuses a position whose record it dropped.
        deadly: how likely a record kills whoever decodes it.
    """

    limits: LoadLimits
    deployed_limits: LoadLimits
    chunk_records: int
    streams: int
    shards: int
    reshardings: int
    recreations: int
    seals: int
    records: int
    days: int
    repeats: float
    refusals: float
    jitter_us: int
    longest_pause_seconds: float
    lag_rate: float
    faults: tuple[str, ...]
    fault_rate: float
    steal_rate: float
    stop_rate: float
    deploys: int
    news: float
    producers: int
    refused_puts: float
    throttle_rate: float
    clock_rate: float
    clock_errors: tuple[int, ...]
    reread_rate: float
    retention_seconds: int
    refuses_trimmed: bool
    deadly: float


def draw(random: Random) -> Scenario:
    """Draw a scenario; each seed has only some of the features, so that rare ones meet undisturbed too."""
    pick = random.choice
    window = WindowLimits(window_us=pick((20, 90, 600, 86_400)) * 1_000_000, max_ids=pick((5, 12, 30, 1_000)))
    deploys, clock_rate = pick((0, 0, 1)), pick((0.0, 0.0, 0.3))
    retention = pick((_DAY_SECONDS, _DAY_SECONDS, 60, 200))
    wild = clock_rate > 0 and retention == _DAY_SECONDS
    keeping = None if wild else Keeping(retention * 1_000_000, _MARGIN_US, 10_000_000)
    return Scenario(
        limits=LoadLimits(_cut(random), window, keeping),
        deployed_limits=LoadLimits(_cut(random), window, keeping),
        chunk_records=pick((1, 2, 3, 1_000)),
        streams=pick((1, 1, 2)),
        shards=pick((1, 1, 2)),
        reshardings=pick((0, 0, 1, 3)),
        recreations=pick((0, 0, 1)),
        seals=pick((0, 0, 1, 2)),
        records=random.randint(7, 18),
        days=pick((1, 1, 2, 3)),
        repeats=pick((0.0, 0.2, 0.5)),
        refusals=pick((0.0, 0.1, 0.3)),
        jitter_us=pick((0, 0, 3_000_000)),
        longest_pause_seconds=pick((2.0, 15.0, 120.0)),
        lag_rate=pick((0.0, 0.1, 0.5)),
        faults=tuple(fault for fault in FAULTS if random.random() < 0.6),
        fault_rate=pick((0.0, 0.02, 0.05, 0.12)),
        steal_rate=pick((0.0, 0.0, 0.01, 0.04)),
        stop_rate=pick((0.0, 0.05)),
        deploys=deploys,
        news=pick((0.0, 0.2)) * deploys,
        producers=pick((0, 0, 1, 2)),
        refused_puts=pick((0.0, 0.3)),
        throttle_rate=pick((0.0, 0.0, 0.1)),
        clock_rate=clock_rate,
        clock_errors=_WILD if wild else _WITHIN_MARGIN,
        reread_rate=pick((0.0, 0.0, 0.2)),
        retention_seconds=retention,
        refuses_trimmed=pick((False, True)),
        deadly=pick((0.0, 0.0, 0.0, 0.15)),
    )


def _cut(random: Random) -> CutLimits:
    pick = random.choice
    return CutLimits(
        max_rows=pick((3, 6, 12, 1_000)),
        max_bytes=pick((600, 2_000, 1_000_000)),
        max_age_seconds=pick((5.0, 40.0, 10_000.0)),
        max_files=pick((2, 4, 1_000)),
    )
