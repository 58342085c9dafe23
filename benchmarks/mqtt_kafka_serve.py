"""Our endpoint, or our collector, in front of Kafka in a process of its own, for the benchmark mqtt-kafka."""

from __future__ import annotations

import asyncio
import json
import resource
import sys

import uvloop

from benchmarks.ingest_site import roster
from bus.kafka_settings import KafkaSettings
from bus.log_kafka import KafkaLog, open_kafka
from ingest.broker_settings import Broker
from ingest.collector import LISTENING, Collector
from ingest.endpoint import Endpoint
from ingest.mqtt_events import Limits


async def serve(kind: str, bootstrap: str, prefix: str, *given: str) -> None:
    """Prints a line when it is ready, and what it has done so far at every line that comes in."""
    log = await open_kafka(KafkaSettings(bootstrap, prefix))
    way = await _endpoint(log) if kind == "endpoint" else await _collector(log, *given)
    while await asyncio.to_thread(sys.stdin.readline):
        usage = resource.getrusage(resource.RUSAGE_SELF)
        found = {
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "accepted": way.counters.accepted,
            "batches": way.counters.batches,
            "peak_memory_mb": usage.ru_maxrss // 1024,
        }
        print(json.dumps(found), flush=True)
    await way.stop()
    await log.close()


async def _endpoint(log: KafkaLog) -> Endpoint:
    endpoint = Endpoint(log, roster(), port=0, limits=Limits())
    await endpoint.start()
    print(json.dumps({"port": endpoint.port}), flush=True)
    return endpoint


async def _collector(log: KafkaLog, port: str, client: str) -> Collector:
    settings = Broker(f"mqtt://127.0.0.1:{port}", client_id="meterflow", client=client)  # type: ignore[arg-type]
    collector = Collector(log, roster(), settings)
    await collector.start()
    while collector.status.state != LISTENING:  # noqa: ASYNC110 status tells nobody
        await asyncio.sleep(0.01)
    print(json.dumps({"port": 0}), flush=True)
    return collector


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
