"""A collector as it is usually written: paho-mqtt, acknowledged by hand, decoded and counted."""

from __future__ import annotations

import json
import resource
import sys
import threading
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion


def collect(port: int) -> None:
    """Prints when it is subscribed; counts as many messages as it is told; prints its CPU seconds."""
    counted, wanted = 0, -1
    ready, finished = threading.Event(), threading.Event()

    def on_message(client: mqtt.Client, _: Any, message: mqtt.MQTTMessage) -> None:
        nonlocal counted
        reading = json.loads(message.payload)
        assert reading["value"] > 0
        client.ack(message.mid, message.qos)
        counted += 1
        if counted == wanted:
            finished.set()

    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="collector", manual_ack=True)
    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", port)
    client.subscribe("meterflow/v1/#", qos=1)
    client.loop_start()
    assert ready.wait(10)
    before = resource.getrusage(resource.RUSAGE_SELF)
    print("ready", flush=True)
    wanted = int(sys.stdin.readline())
    if counted < wanted:
        finished.wait(45)
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert counted >= wanted, f"{counted} of {wanted} messages came"
    print(
        json.dumps({"cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}), flush=True
    )
    client.loop_stop()


if __name__ == "__main__":
    collect(int(sys.argv[1]))
