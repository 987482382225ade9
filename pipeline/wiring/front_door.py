"""What the HTTP API is made of."""

import random
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from pipeline.config import Settings
from pipeline.core.accept import Acceptors
from pipeline.core.errors import ConfigProblem
from pipeline.core.rules import Rules
from pipeline.facts import EventsReceived, FactSink
from pipeline.flows.follow import ArrivalReceipts, Follower
from pipeline.laptop.home import write_atomically
from pipeline.ports.clock import Clock
from pipeline.sending.batches import MAX_EVENT_BYTES
from pipeline.sending.coalesce import Ingest, OpenProducer
from pipeline.sending.fates import BatchFate
from pipeline.sending.threaded import EventProducer, ProducerOptions
from pipeline.sending.worker import WorkerPorts
from pipeline.wiring.loading import rules as settings_rules
from pipeline.wiring.sending import sending_parts, sending_receipts
from pipeline.wiring.stores import Archive, archive

_THREADS = (
    16  # calls to stores that one process has under way; further ones wait, bounded by the request's deadline
)
_KEY_CHARACTERS = 32  # of a signing key: fewer could be guessed


@dataclass
class Tally:
    """What came in since it was last told; of the event loop."""

    requests: int = 0
    accepted: int = 0
    refused: int = 0
    retry: int = 0

    def take(self) -> EventsReceived | None:
        """Return what is new, and begin anew; None: nothing."""
        told = EventsReceived(self.requests, self.accepted, self.refused, self.retry)
        self.requests = self.accepted = self.refused = self.retry = 0
        return told if told.requests else None


def _unopened(_told: Callable[[BatchFate], None]) -> EventProducer:
    raise ConfigProblem("this process was made without a stream to send to")


def _ruleless() -> Rules:
    raise ConfigProblem("this process was made without rules to judge events by")


@dataclass(frozen=True)
class FrontDoor:
    """Everything that handlers use. Made once in a process; safe from its event loop and its threads.

    Attributes:
        ingest: takes events to the stream; of the event loop.
        receipts: what was taken, and how far it is; None in a process that only reads.
        rules: returns the newest rules that are known; judges are kept in `acceptors` while they stay the same.
        tally: what came in.
    """

    settings: Settings
    clock: Clock
    facts: FactSink
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
    )
    ingest: Ingest = field(default_factory=lambda: Ingest(_unopened))
    receipts: ArrivalReceipts | None = None
    rules: Callable[[], Rules] = _ruleless
    acceptors: Acceptors = field(default_factory=Acceptors)
    tally: Tally = field(default_factory=Tally)


def front_door(settings: Settings, clock: Clock, facts: FactSink) -> FrontDoor:
    """Return the parts of one process of the API.

    Raises:
        ConfigProblem, NotFound, Transient: there is no stream, or the settings contradict it.
    """
    stores, judged_by = archive(settings, facts), settings_rules(settings)
    parts = sending_parts(settings, stores)
    door = FrontDoor(settings, clock, facts)
    follower = Follower(stores.ledger, parts.stream, clock, door.threads)
    return replace(
        door,
        ingest=Ingest(_opener(settings, stores, clock, facts)),
        receipts=ArrivalReceipts(signing_key(settings), parts.stream, follower),
        rules=lambda: judged_by,
    )


def _opener(settings: Settings, stores: Archive, clock: Clock, facts: FactSink) -> OpenProducer:
    def opened(told: Callable[[BatchFate], None]) -> EventProducer:
        parts, web = sending_parts(settings, stores), settings.web
        ports = WorkerPorts(parts.sink, sending_receipts(settings, facts), clock, random.random, facts, told)
        batches = replace(parts.settings, linger_seconds=web.linger_ms / 1_000)
        # Fates are told as they come: none is kept for a report.
        options = ProducerOptions(max_buffer_bytes=web.max_buffer_bytes, keep_fates=0)
        return EventProducer(parts.producer_id, parts.stream, ports, batches, options, MAX_EVENT_BYTES)

    return opened


def signing_key(settings: Settings) -> bytes:
    """Return the key that receipts and cursors are signed with.

    Raises:
        ConfigProblem: it is not set, where the processes of a deployment must share one; or it is too short.
    """
    given = settings.web.signing_key
    if given is not None:
        key = given.get_secret_value().encode()
        if len(key) < _KEY_CHARACTERS:
            raise ConfigProblem(
                f"web.signing_key has {len(key)} characters, and needs {_KEY_CHARACTERS} or more"
            )
        return key
    if settings.aws.endpoint_url is None:
        raise ConfigProblem(
            "web.signing_key is not set: receipts and cursors are signed with it, and all processes of the API need the "
            f"same; set it to {_KEY_CHARACTERS} random characters or more"
        )
    path = settings.paths.home / "signing.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, secrets.token_hex(_KEY_CHARACTERS).encode())
        path.chmod(0o600)
    return path.read_bytes()
