"""Prometheus metrics, read from the service's status at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from web.health import not_ready
from web.live import LiveFeed
from web.status import Progress, Status


class Metrics:
    """A registry of its own, so that several services in one process do not mix."""

    def __init__(self, status: Callable[[], Status], live: LiveFeed) -> None:
        self.loop_lag_s = 0.0
        """How late the event loop last ran what was due; the server measures it."""
        self._registry = CollectorRegistry()
        self._registry.register(_StatusCollector(status, live, self))
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def exposition(self) -> tuple[bytes, str]:
        """The text format and its media type."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class _StatusCollector(Collector):
    def __init__(self, status: Callable[[], Status], live: LiveFeed, metrics: Metrics) -> None:
        self._status, self._live, self._metrics = status, live, metrics

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._status()
        yield from _readings(status)
        yield from _log(status)
        yield _gauge(
            "meterflow_ready", "1 when the service is ready, see /readyz.", int(not not_ready(status))
        )
        yield _gauge("meterflow_mqtt_connections", "Open MQTT connections.", status.connections)
        yield _gauge("meterflow_web_streams", "Open pages that listen to events.", self._live.clients)
        yield _gauge(
            "meterflow_event_loop_lag_seconds", "How late the event loop runs.", self._metrics.loop_lag_s
        )
        yield _gauge(
            "meterflow_start_time_seconds", "When the service was started.", status.started_ms / 1000
        )
        info = GaugeMetricFamily("meterflow_build_info", "The running version.", labels=["version"])
        info.add_metric([status.version], 1)
        yield info


def _readings(status: Status) -> Iterator[Metric]:
    for outcome in ("received", "accepted", "duplicate", "rejected"):
        name = f"meterflow_readings_{outcome}"
        family = CounterMetricFamily(name, f"Readings {outcome}, by hop.", labels=["hop"])
        for hop, counts in status.hops.items():
            family.add_metric([hop], getattr(counts, outcome))
        yield family
    balance = GaugeMetricFamily(
        "meterflow_hop_balance", "Received less accepted, duplicate and rejected: 0, always.", labels=["hop"]
    )
    for hop, counts in status.hops.items():
        balance.add_metric([hop], counts.balance)
    yield balance
    reasons = CounterMetricFamily("meterflow_rejected", "Readings and messages not taken.", labels=["reason"])
    for reason, count in status.rejected.items():
        reasons.add_metric([reason], count)
    yield reasons
    name = "meterflow_ledger_unbalanced_installations"
    yield _gauge(name, "Installations whose ledger does not balance: 0, always.", status.ledger_unbalanced)


def _log(status: Status) -> Iterator[Metric]:
    ends = GaugeMetricFamily("meterflow_log_end_offset", "The next offset of each topic.", labels=["topic"])
    for topic, end in status.log_ends.items():
        ends.add_metric([topic], end)
    yield ends
    yield _gauge("meterflow_log_writable", "1 while the log takes what comes.", int(not status.log_error))
    for name, part in (("worker", status.worker), ("sink", status.sink), ("archive", status.archive)):
        if part is not None:
            yield from _progress(name, part)
    yield from _partitions(status)


def _progress(name: str, part: Progress) -> Iterator[Metric]:
    yield _gauge(f"meterflow_{name}_lag_records", f"Records that wait for the {name}.", part.lag_records)
    yield _gauge(
        f"meterflow_{name}_behind_seconds", "Age of the oldest waiting record.", part.behind_ms / 1000
    )
    yield _gauge(f"meterflow_{name}_running", f"1 while the {name} runs.", int(part.running))


def _partitions(status: Status) -> Iterator[Metric]:
    labels = ["part", "partition"]
    lag = GaugeMetricFamily(
        "meterflow_partition_lag_records", "Records that wait, by part and partition.", labels=labels
    )
    behind = GaugeMetricFamily(
        "meterflow_partition_behind_seconds", "Age of the oldest waiting record, likewise.", labels=labels
    )
    for part, partitions in status.partitions.items():
        for partition, progress in partitions.items():
            lag.add_metric([part, str(partition)], progress.lag_records)
            behind.add_metric([part, str(partition)], progress.behind_ms / 1000)
    yield lag
    yield behind
    events = CounterMetricFamily("meterflow_events", "What adapters count, by name.", labels=["event"])
    for name, count in status.events.items():
        events.add_metric([name], count)
    yield events


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, value=value)
