"""A fact's numbers as a document of CloudWatch's Embedded Metric Format (EMF), inside the fact's own log line.

Source: Amazon CloudWatch User Guide, "Specification: Embedded metric format". CloudWatch Logs takes the metrics out of
such lines by itself; nobody calls an API. A counter is a value of its own in every line, so its statistic is Sum.

One fact stays one line. A metric by a label that is a field of the fact gets it as a dimension. Refusals by code are
many labels in one fact, and a document has room for one value of a dimension only: there each code is a metric of its own,
`refused_units_not_json`, beside their sum, `refused_units`. It costs the same, and lines can still be counted.

A histogram is an array of at most 100 values that are spread as what was counted, so CloudWatch's percentiles are those of
the line. Their number is not that of what was counted: a counter beside it says that.
"""

from typing import Any

from pipeline.core.histogram import Histogram
from pipeline.facts import Fact, readings

MAX_METRICS = 100  # EMF: definitions in one directive


def embedded(fact: Fact, worker: str, namespace: str, now_ms: int) -> dict[str, Any]:
    """Return the members that turn a fact's line into an EMF document; empty for a fact without numbers.

    Every metric is there without its label as well: an alarm cannot be set on a search over dimensions.
    """
    values: dict[str, Any] = {}
    definitions: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for metric, key, value, _ in readings(fact):
        dimension = metric.labels if metric.label in fact.__struct_fields__ else ()
        name = metric.name
        if key and not dimension:
            if name not in values:
                definitions.setdefault((), []).append({"Name": name, "Unit": metric.unit})
            values[name] = values.get(name, 0) + value
            name = f"{name}_{key}"
        if isinstance(value, Histogram):
            if not value.count:
                continue
            values[name] = value.values()
        else:
            values[name] = value
        definitions.setdefault(dimension, []).append({"Name": name, "Unit": metric.unit})
    if not values:
        return {}
    directives = [
        {
            "Namespace": namespace,
            "Dimensions": [["worker"], ["worker", *dimension]] if dimension else [["worker"]],
            "Metrics": metrics,
        }
        for dimension, metrics in definitions.items()
    ]
    return {
        "worker": worker,
        **values,
        "_aws": {"Timestamp": now_ms, "CloudWatchMetrics": directives},
    }
