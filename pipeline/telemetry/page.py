"""The metrics of one process as a page for Prometheus, in its text format, at every path of one port.

Imported only where a page is wanted. The registry is the page's own, so nothing that another library registers shows up
here; on Linux the usual `process_*` metrics (memory, processor time, start) stand beside ours.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pipeline.core.errors import ConfigProblem
from pipeline.core.histogram import Histogram
from pipeline.core.metric import Metric
from pipeline.facts import METRICS, Fact, readings

_Labels = tuple[str, ...]  # the values of a metric's labels, in their order
_Family = Any  # of prometheus_client; three kinds with three forms
_KINDS: dict[str, Callable[..., _Family]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


class Page(Collector):
    """Totals since the process began, and a server that shows them; safe from any thread."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._values: dict[str, dict[_Labels, float | Histogram]] = defaultdict(dict)
        for metric in METRICS.values():
            if metric.kind == "counter" and not metric.label:
                self._values[metric.name][()] = 0.0  # a rate needs the zero before the first
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def take(self, fact: Fact) -> None:
        """Add a fact's counters, and keep its gauges."""
        with self._lock:
            for metric, key, value, more in readings(fact):
                series, labels = self._values[metric.name], (key, *more) if metric.label else ()
                before = None if metric.kind == "gauge" else series.get(labels)
                series[labels] = value if before is None else before + value  # type: ignore[operator]

    def collect(self) -> Iterator[_Family]:
        """Yield every metric of the closed set, told or not: whoever looks finds the name and what it means."""
        with self._lock:
            values = {name: dict(series) for name, series in self._values.items()}
        for metric in METRICS.values():
            yield self._family(metric, values.get(metric.name, {}))

    def _family(self, metric: Metric, series: dict[_Labels, float | Histogram]) -> _Family:
        family: _Family = _KINDS[metric.kind](
            metric.prometheus_name, metric.says, labels=("worker", *metric.labels)
        )
        for labels, value in series.items():
            named = [self._worker, *labels]
            if isinstance(value, Histogram):
                family.add_metric(named, buckets=value.buckets(), sum_value=value.sum)
            else:
                family.add_metric(named, value)
        return family

    def text(self) -> bytes:
        """Return the page."""
        return generate_latest(self._registry)

    def serve(self, host: str, port: int) -> None:
        """Answer on `host`:`port` from now on, in a thread of its own.

        Raises:
            ConfigProblem: nobody can listen there.
        """
        try:
            self._server, self._thread = start_http_server(port, host, self._registry)
        except (OSError, UnicodeError) as exc:
            raise ConfigProblem(
                f"metrics.prometheus_port = {port}: cannot listen on {host}:{port} ({exc}); set metrics.prometheus_port "
                "(HEADRACE_METRICS__PROMETHEUS_PORT) to a free port, or to 0 for no page, and metrics.prometheus_host to "
                "an address of this machine"
            ) from exc

    def close(self) -> None:
        """Stop answering."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
