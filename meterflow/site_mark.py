"""Results of two site files, or with other keys, do not mix: the log keeps of which kind its results are."""

from __future__ import annotations

from bus.log import Log
from meterflow.settings import Settings
from metering.errors import UsageError
from metering.roster import Roster
from metering.tables import KEYS_FORMAT

CONSUMER = "site"


async def check_site(log: Log, roster: Roster, settings: Settings, partition: int) -> None:
    """Notes of which site file a partition's results are, before there are any.

    Raises UsageError when they are of another one. They stay as they are then: whoever reads them finds
    what was said, and the new site file's results are worked out anew beside them.
    """
    mark = f"{roster.version} {KEYS_FORMAT}".encode()
    chunks = (await log.load(CONSUMER, partition)).chunks
    if not chunks:
        await log.save(CONSUMER, 0, {"version": mark}, partition=partition)
    elif chunks["version"] != mark:
        kafka, influxdb = settings.values.kafka, settings.values.influxdb
        assert kafka is not None
        bucket = f" (now {influxdb.bucket})" if influxdb else ""
        raise UsageError(
            f"the results named '{kafka.results}' are of another site file, policy or version of meterflow",
            where=str(settings.site),
            hint="Such results do not mix. Take the site file (or version) of before, or give the new\n"
            f"  results names of their own in {settings.file}, for process, sink and web:\n"
            f"    kafka.results: another name (now {kafka.results})\n"
            f"    influxdb.bucket: another, empty bucket{bucket}\n"
            "  Everything is then worked out anew from the readings; the results of before stay as they are.",
        )
