"""Liveness, readiness and metrics."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.web.web_site import Served
from web.health import not_ready
from web.status import Hop, Progress, Status

Serving = Callable[..., Served]
WAITING = Progress(offset=90, end=100)


def test_a_working_service_is_ready() -> None:
    """Records that wait are no fault while they are being taken."""
    assert not_ready(Status()) == []
    assert not_ready(Status(worker=Progress(90, 100, idle_ms=9_000, behind_ms=50_000))) == []
    assert not_ready(Status(worker=Progress(100, 100, idle_ms=3_600_000))) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status(starting=True), "still starting"),
        (Status(log_error="disk full"), "the log takes nothing: disk full"),
        (Status(worker=Progress(running=False, error="boom")), "the worker has stopped: boom"),
        (Status(sink=Progress(running=False)), "the store has stopped"),
        (Status(sink=Progress(error="locked")), "the store cannot go on: locked"),
        (
            Status(worker=Progress(90, 100, idle_ms=10_000)),
            "worker is stuck: 10 records wait, none taken for 10 s",
        ),
        (Status(sink=Progress(90, 100, behind_ms=60_000)), "store lags: 10 records wait, the oldest 60 s"),
        (Status(problems=("the clock is wrong",)), "the clock is wrong"),
    ],
)
def test_what_hinders_the_service_is_said(status: Status, words: str) -> None:
    """Each hindrance is one reason, in words."""
    (reason,) = not_ready(status)
    assert words in reason


def test_readiness_is_503_with_reasons_and_liveness_goes_on(served: Serving) -> None:
    """A supervisor does not kill a service that only waits for room on the disk."""
    one = served()
    assert one.client.get("/readyz").json() == {"ready": True, "reasons": []}
    one.site.status(log_error="disk full", worker=Progress(90, 100, idle_ms=20_000))
    answer = one.client.get("/readyz")
    assert (answer.status_code, len(answer.json()["reasons"])) == (503, 2)
    assert one.client.get("/livez").status_code == 200


def test_metrics_are_what_the_service_says(served: Serving) -> None:
    """Counters by hop and reason, balances, lags and offsets, in Prometheus's own format."""
    one = served()
    one.site.status(
        hops={"ingest": Hop(10, 5, 3, 2), "processors": Hop(7, 5, 1, 0)},
        rejected={"not_json": 2},
        log_ends={"readings": 42},
        worker=WAITING,
        sink=Progress(8, 10, behind_ms=1_500),
        connections=4,
        ledger_unbalanced=1,
    )
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(one.client.get("/metrics").text)
        for sample in family.samples
    }
    wanted = {
        ("meterflow_readings_received_total", "ingest"): 10,
        ("meterflow_readings_accepted_total", "ingest"): 5,
        ("meterflow_readings_duplicate_total", "ingest"): 3,
        ("meterflow_readings_rejected_total", "ingest"): 2,
        ("meterflow_hop_balance", "ingest"): 0,
        ("meterflow_hop_balance", "processors"): 1,
        ("meterflow_rejected_total", "not_json"): 2,
        ("meterflow_log_end_offset", "readings"): 42,
        ("meterflow_log_writable",): 1,
        ("meterflow_worker_lag_records",): 10,
        ("meterflow_sink_behind_seconds",): 1.5,
        ("meterflow_mqtt_connections",): 4,
        ("meterflow_ledger_unbalanced_installations",): 1,
        ("meterflow_ready",): 1,
        ("meterflow_web_streams",): 0,
        ("meterflow_build_info", "0.1.0"): 1,
    }
    assert {key: found.get(key) for key in wanted} == wanted
    assert found[("meterflow_event_loop_lag_seconds",)] >= 0
    assert found[("process_resident_memory_bytes",)] > 0


def test_two_services_in_one_process_keep_their_metrics_apart(served: Serving) -> None:
    """Each app has a registry of its own."""
    one, other = served(), served()
    one.site.status(connections=1)
    other.site.status(connections=2)
    assert "meterflow_mqtt_connections 1.0" in one.client.get("/metrics").text
    assert "meterflow_mqtt_connections 2.0" in other.client.get("/metrics").text
