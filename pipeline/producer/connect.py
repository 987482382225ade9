"""From settings to a producer that runs."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.config import Settings
from pipeline.config.running import settings_with_stack
from pipeline.core.rules import Rules
from pipeline.facts import Fact, FactSink
from pipeline.sending.fates import BatchFate
from pipeline.sending.threaded import EventProducer, ProducerOptions

_LOG = logging.getLogger("headrace.producer")
_LEVELS = {"INFO": logging.INFO, "WARN": logging.WARNING, "ERROR": logging.ERROR}


def connect(
    settings: Settings | None = None,
    *,
    rules: Rules | bool = False,
    on_batch: Callable[[BatchFate], None] | None = None,
    facts: FactSink | None = None,
    **options: Any,
) -> EventProducer:
    """Open a producer to the stream of the settings; close it, or use it in a `with` block.

    Args:
        settings: where the stream is; by default those that `headrace config show` shows, and the local stack if it
            runs.
        rules: True: judge every event by the schemas at hand before it is taken, as the loader will. Or such rules.
        on_batch: called in the sending thread with each batch that leaves the memory; quick, and what it raises is only
            shown. An event that went to disk is told once, as spilled.
        facts: takes what the producer says of itself; by default Python's logger `headrace.producer`.
        options: fields of `ProducerOptions`.

    Raises:
        ConfigProblem: a setting is wrong, there is nothing to talk to, or the spill folder is in use.
        Corrupt: a file of the spill is damaged.
        Transient: AWS did not answer.
    """
    from pipeline import wiring  # noqa: PLC0415 - boto3 takes half a second, and an import should not

    chosen = ProducerOptions(**options)
    if chosen.spill is not None:
        chosen = replace(chosen, spill=Path(chosen.spill).expanduser().absolute())
    found = settings if settings is not None else settings_with_stack(warn=_LOG.warning)
    judged_by = wiring.rules(found) if rules is True else rules or None
    return wiring.event_producer(found, chosen, facts or _log, on_batch, judged_by)


def _log(fact: Fact) -> None:
    fields = " ".join(f"{name}={getattr(fact, name)}" for name in fact.__struct_fields__)
    _LOG.log(_LEVELS[fact.level], "%s %s", type(fact).__name__, fields)
