"""The metrics of one process as a page for Prometheus, in its text format, at every path of one port.

Imported only where a page is wanted. The registry is the page's own, so nothing that another library registers shows up
here; on Linux the usual `process_*` metrics (memory, processor time, start) stand beside ours.
"""

import threading
from collections import defaultdict
from collections.abc import Iterator
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.core.errors import ConfigProblem
from pipeline.core.metric import Metric
from pipeline.facts import METRICS, Fact, readings


class Page(Collector):
    """Totals since the process began, and a server that shows them; safe from any thread."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._lock = threading.Lock()
        self._values: dict[str, dict[str, float]] = defaultdict(dict)
        for metric in METRICS.values():
            if metric.kind == "counter" and not metric.label:
                self._values[metric.name][""] = 0.0  # a rate needs the zero before the first
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def take(self, fact: Fact) -> None:
        """Add a fact's counters, and keep its gauges."""
        with self._lock:
            for metric, key, value in readings(fact):
                series = self._values[metric.name]
                series[key] = value if metric.kind == "gauge" else series.get(key, 0.0) + value

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield every metric of the closed set, told or not: whoever looks finds the name and what it means."""
        with self._lock:
            values = {name: dict(series) for name, series in self._values.items()}
        for metric in METRICS.values():
            yield self._family(metric, values.get(metric.name, {}))

    def _family(self, metric: Metric, series: dict[str, float]) -> CounterMetricFamily | GaugeMetricFamily:
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        labels = [label for label in ("worker", metric.label) if label]
        family = kind(metric.prometheus_name, metric.says, labels=labels)
        for key, value in series.items():
            family.add_metric([self._worker, key][: len(labels)], value)
        return family

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
