"""What KCL's daemon is told, as text: its properties, its logging, and the command of one shard's process."""

import shlex
import sys
from pathlib import Path

from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.machine.modules import module_command

PROPERTIES, LOGBACK, CHILD = "kcl.properties", "logback.xml", "child.sh"

# Silent: they write lines of the protocol or whole records into the log, and our children's facts a second time.
_SILENT = (
    "software.amazon.kinesis.multilang.DrainChildSTDERRTask",
    "software.amazon.kinesis.multilang.DrainChildSTDOUTTask",
    "software.amazon.kinesis.multilang.GetNextMessageTask",
    "software.amazon.kinesis.multilang.MessageWriter",
    "software.amazon.kinesis.retrieval.AggregatorUtil",
)


def application_name(settings: Settings, epoch: str) -> str:
    """Return the name of the KCL application, and so of its tables: one for each creation of a stream.

    A stream that is made anew numbers its shards as before; leases of the old one would begin it somewhere in the middle.
    """
    return f"{settings.kcl.application}-{epoch}"


def properties(settings: Settings, epoch: str, worker_id: str) -> dict[str, str]:
    """Return KCL's properties.

    `maxActiveThreads` stays unset: with a fixed pool the threads that wait for children starve those that answer.

    Raises:
        ConfigProblem: `kcl.properties` sets one of ours, or is no list of name=value.
    """
    kcl, aws = settings.kcl, settings.aws
    found = {
        "applicationName": application_name(settings, epoch),
        "streamName": settings.stream.name,
        "workerId": worker_id,
        "executableName": f"sh {CHILD}",  # split at blanks, so no path may stand here
        "processingLanguage": f"python/{sys.version_info.major}.{sys.version_info.minor}",
        "initialPositionInStream": "TRIM_HORIZON",
        "awsCredentialsProvider": "DefaultCredentialsProvider",
        "regionName": aws.region,
        "retrievalMode": kcl.retrieval.upper(),
        # The loader cuts by time inside a batch, also an empty one.
        "callProcessRecordsEvenForEmptyRecordList": "true",
        # KCL has no time-out by default: a child that hangs would hang for ever.
        "timeoutInSeconds": str(kcl.timeout_seconds),
        "shutdownGraceMillis": str(kcl.shutdown_seconds * 1_000),
        "failoverTimeMillis": str(kcl.failover_seconds * 1_000),
        "metricsLevel": kcl.metrics_level.upper(),
    }
    if kcl.retrieval == "polling":
        found["idleTimeBetweenReadsInMillis"] = str(kcl.idle_ms)
    if aws.endpoint_url is not None:
        found |= {"kinesisEndpoint": aws.endpoint_url, "dynamoDBEndpoint": aws.endpoint_url}
        found["cloudWatchClient.endpointOverride"] = aws.endpoint_url
    for part in filter(None, map(str.strip, (kcl.properties or "").split(","))):
        name, equals, value = map(str.strip, part.partition("="))
        if not (name and equals):
            raise ConfigProblem(f"kcl.properties: {part!r} is no name=value")
        if name in {*found, "maxActiveThreads", "streamArn"}:
            raise ConfigProblem(f"kcl.properties: {name} is set by headrace itself; leave it out")
        found[name] = value
    return found


def as_properties(values: dict[str, str]) -> str:
    """Return values as java.util.Properties reads them from bytes: ASCII, with blanks and backslashes escaped."""

    def escaped(text: str) -> str:
        plain = text.replace("\\", "\\\\").replace("\n", "\\n")
        plain = f"\\{plain}" if plain.startswith(" ") else plain
        units = plain.encode("utf-16-be")
        pairs = (int.from_bytes(units[at : at + 2]) for at in range(0, len(units), 2))
        return "".join(chr(one) if 0x20 <= one < 0x7F else f"\\u{one:04x}" for one in pairs)

    return "".join(f"{name} = {escaped(value)}\n" for name, value in values.items())


def logback() -> str:
    """Return the daemon's logging: warnings to standard output, one line each, of an error its class and no more.

    The text of an exception may quote a line of the protocol, and with it payloads.
    """
    line = (
        "%level\\t%logger{0}\\t%replace(%msg){'\\s+',' '}\\t%replace(%ex{short}){'(?s)[:\\s].*',''}%nopex%n"
    )
    silent = "".join(f'  <logger name="{name}" level="OFF"/>\n' for name in _SILENT)
    return (
        "<configuration>\n"
        '  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">\n'
        f"    <encoder><charset>UTF-8</charset><pattern>{line}</pattern></encoder>\n"
        "  </appender>\n"
        f"{silent}"
        '  <root level="WARN"><appender-ref ref="OUT"/></root>\n'
        "</configuration>\n"
    )


def child_script() -> str:
    """Return the command of one shard's process; `sh` reads it, so that it runs where files may not be executed."""
    return f"exec {shlex.join(module_command('consumers.kcl'))}\n"


def write_files(folder: Path, values: dict[str, str]) -> None:
    """Write all three into the daemon's working directory."""
    (folder / PROPERTIES).write_text(as_properties(values), encoding="ascii")
    (folder / LOGBACK).write_text(logback(), encoding="ascii")
    (folder / CHILD).write_text(child_script(), encoding="utf-8")
