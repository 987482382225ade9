"""What reads the archive: queries, look-ups, the quarantine and the audit."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from pipeline.aws.client import make_client, unheard
from pipeline.aws.meter import Meter
from pipeline.aws.s3 import S3Objects
from pipeline.config import Settings
from pipeline.core.audit import Report
from pipeline.flows.audit import AuditPorts, run_audit
from pipeline.flows.find import FindPorts
from pipeline.flows.quarantine import QuarantinePorts
from pipeline.flows.rows import RowReader
from pipeline.flows.sight import TracePorts
from pipeline.ports.clock import SystemClock
from pipeline.ports.sql import SqlEngine
from pipeline.wiring.loading import rules
from pipeline.wiring.stores import archive, connection, object_cache

READERS = 8  # segments audited, or runs of rows read, at once: hides the latency of S3
_LOCAL_READERS = 2  # an emulator has none, and each segment takes memory


def sql_engine(settings: Settings, engine: str | None) -> SqlEngine:
    """Return the SQL engine: the one named, else the one of the settings."""
    chosen, query = engine or settings.query.engine, settings.query
    if chosen == "athena":
        from pipeline.aws.athena import AthenaEngine  # noqa: PLC0415 - only where it is used

        client = make_client("athena", connection(settings), Meter())
        return AthenaEngine(
            client,
            workgroup=query.athena_workgroup,
            database=query.athena_database,
            output=query.athena_output,
        )
    from pipeline.laptop.duck import DuckEngine  # noqa: PLC0415 - duckdb is part of the extra `local`

    stores = archive(settings)
    cache = object_cache(settings, stores)
    return DuckEngine(
        rules(settings).schemas, stores.manifest, cache, database=query.athena_database, clock=SystemClock()
    )


def quarantine(settings: Settings, progress: Callable[[int], None]) -> QuarantinePorts:
    """Return what reading the quarantine needs; `progress` is told of files that were read."""
    stores = archive(settings)
    return QuarantinePorts(stores.ledger, stores.manifest, stores.objects, SystemClock(), unheard, progress)


def audit(settings: Settings, progress: Callable[[int], None]) -> Report:
    """Run the audit; `progress` is told of objects and redriven units, how many more, from any thread."""
    stores = archive(settings)
    cache = object_cache(settings, stores)
    readers = _LOCAL_READERS if settings.aws.endpoint_url else READERS
    with ThreadPoolExecutor(readers, thread_name_prefix="audit") as pool:
        ports = AuditPorts(
            ledger=stores.ledger,
            manifest=stores.manifest,
            objects=stores.objects,
            index=stores.index,
            aggregates=stores.aggregates,
            receipts=stores.receipts,
            fetch=cache.verified,
            each=pool.map,
            progress=progress,
        )
        return run_audit(ports)


@contextmanager
def finding(settings: Settings, progress: Callable[[int], None]) -> Iterator[TracePorts]:
    """Give what look-ups, counts and traces read; `progress` is told of every read, from any thread."""
    stores = archive(settings)
    reader = row_readers(stores.objects)
    with ThreadPoolExecutor(READERS, thread_name_prefix="find") as pool:
        find = FindPorts(
            ledger=stores.ledger,
            manifest=stores.manifest,
            index=stores.index,
            aggregates=stores.aggregates,
            read=lambda *wanted: reader().read(*wanted),
            each=pool.map,
            progress=progress,
        )
        yield TracePorts(find, stores.objects, stores.receipts, lambda *row: reader().row_group(*row))


def row_readers(objects: S3Objects) -> Callable[[], RowReader]:
    """Return a function that gives each thread a reader of its own."""
    mine = threading.local()

    def reader() -> RowReader:
        if not hasattr(mine, "reader"):
            mine.reader = RowReader(objects)
        found: RowReader = mine.reader
        return found

    return reader
