"""What a number of a fact is called, and what it may be broken down by.

One declaration serves the log, CloudWatch and Prometheus. Every value of a label is a series of its own, which
somebody keeps and pays for, so a label takes its values from a small closed set: never an entity, an id, an ordinal, a
job or a message. `LABELS` are all there are; two of them are bounded by other means than the code.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal["Count", "Bytes", "Seconds"]  # words of CloudWatch; a name that ends in one says it too
LABELS = {
    "code": "why units, events, credentials or requests were refused",
    "answer": "what the ledger said",
    "state": "stale or failed, of replay jobs",
    "call": "the call, a word of the code",
    "route": "the method and path of a route, from the table of routes; `none` where there is no such route",
    "status": "2xx, 3xx, 4xx or 5xx",
    "tenant": "the tenant, of the first metrics.tenants that a process serves; `_other` stands for all further ones",
    "shard_id": "the shard; for the lag only, which says nothing without it",
}


@dataclass(frozen=True)
class Metric:
    """One number that a fact carries.

    Attributes:
        name: what is counted, in snake case; `_bytes` or `_seconds` at the end where that is the unit.
        kind: a counter is added up, a gauge is what holds now, a histogram counts values between bounds.
        unit: of the number.
        says: one sentence for a person.
        field: the fact's field that holds it; None: every fact counts one.
        label: a field of the fact, or, where `field` is a dict, what its keys are; "" for none.
        more: further labels, each a field of the fact.
    """

    name: str
    kind: Kind
    unit: Unit
    says: str
    field: str | None = None
    label: str = ""
    more: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """Return all its labels."""
        return (self.label, *self.more) if self.label else ()

    @property
    def prometheus_name(self) -> str:
        """Return the name on the page: `headrace_rows_total`, `headrace_lag_seconds`."""
        return f"headrace_{self.name}" + ("_total" if self.kind == "counter" else "")
