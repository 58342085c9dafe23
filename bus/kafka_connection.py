"""A process's connections to the brokers: requests with bounded patience, errors that are ours.

aiokafka gives sockets, login, metadata and the coding of requests; which request follows which is
decided here and in bus.kafka_producer and bus.kafka_reader. Its own producer and consumer retry for
ever in tasks of their own, where neither an end nor an outcome can be told.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidTimestampError,
    KafkaConnectionError,
    KafkaError,
    LeaderNotAvailableError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.coordination import FindCoordinatorRequest

from bus.kafka_settings import KafkaSettings, client_options
from metering.errors import MeterflowError, NotOwner, Unavailable, UsageError

GROUP, TRANSACTION = CoordinationType.GROUP, CoordinationType.TRANSACTION
_RETRY_S, _RETRY_S_MAX = 0.01, 0.5
_FENCED_CODE = 90
_FENCED = frozenset((47, 49, _FENCED_CODE))
"""INVALID_PRODUCER_EPOCH, INVALID_PRODUCER_ID_MAPPING, PRODUCER_FENCED: a newer producer has this name."""
_REFUSED = frozenset((29, 30, 31, 53))
"""Not authorised for a topic, a group, the cluster, a transactional id."""
_PASSING = frozenset((2, 3, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 41, 51, 56, 72, 74, 75, 76, 100))
"""What goes by when leaders and coordinators have been found again."""
_TOO_LARGE = frozenset((10, 18))
_LOGIN = frozenset((33, 34, 58))
_OF_CLIENTS = frozenset(("bootstrap_servers", "connections_max_idle_ms", "metadata_max_age_ms"))

_Result = TypeVar("_Result")


class Refused(KafkaError):  # type: ignore[misc]
    """An answer with an error code."""

    def __init__(self, code: int, of: str) -> None:
        name = "PRODUCER_FENCED" if code == _FENCED_CODE else for_code(code).message
        super().__init__(f"{name} ({of})")
        self.code = code


def check_code(code: int, of: str) -> None:
    """Raises Refused for any code but success."""
    if code:
        raise Refused(code, of)


class Connection:
    """To one cluster; belongs to the running loop. Methods that say so raise aiokafka's errors: they are
    called within ``patiently`` or ``once``.
    """

    def __init__(self, settings: KafkaSettings, name: str) -> None:
        self.settings = settings
        self.closed = False
        self._options = client_options(settings, name)
        self._client: AIOKafkaClient | None = None
        self._given_up = asyncio.get_running_loop().create_future()
        """Of the client: done when nothing more will come of it."""
        self._worked_s = 0.0
        """When anybody's request was answered last, or brokers were found, by the loop's time."""
        self._starting = asyncio.Lock()
        self._coordinators: dict[tuple[int, str], int] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def patiently(self, doing: str, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """The attempt's result, tried again while what is wrong may go by; Unavailable after a while."""
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        until, wait_s = begun_s + self.settings.patience_ms / 1000, _RETRY_S
        why: Exception | None = None
        while True:
            try:
                return await self._tried(attempt, until)
            except (KafkaError, OSError, TimeoutError) as error:
                if self.closed:
                    raise self._closed() from error
                if not _passes(error):
                    raise self._ours(doing, error) from error
                why = error if why is None or not isinstance(error, TimeoutError) else why  # it says more
                if loop.time() + wait_s >= until:
                    if self._worked_s < begun_s:  # else others would lose what they wait for, and we to them
                        self._start_over()
                    raise self._ours(doing, why) from why
                self._look_again(error)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_S_MAX)

    async def once(self, doing: str, attempt: Callable[[], Awaitable[_Result]]) -> _Result:
        """The result of an attempt that must not be repeated when nothing was heard of it."""
        try:
            until = asyncio.get_running_loop().time() + self.settings.patience_ms / 1000
            return await self._tried(attempt, until)
        except (KafkaError, OSError, TimeoutError) as error:
            self._look_again(error)
            raise self._closed() if self.closed else self._ours(doing, error) from error

    async def leader(self, topic: str, partition: int) -> int:
        """The node that leads a partition. Raises aiokafka's errors."""
        client = await self._started()
        node: int | None = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if node is None or node < 0:
            client.add_topic(topic)
            await self._looked(client)
            node = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        if node is None:
            raise UnknownTopicOrPartitionError(f"{topic} {partition}")
        if node < 0:
            raise LeaderNotAvailableError(f"{topic} {partition}")
        return node

    async def coordinator(self, kind: int, name: str) -> int:
        """The node that sees to a group or a transactional id. Raises aiokafka's errors."""
        if (kind, name) not in self._coordinators:
            answer = await self.send(await self.any_node(), FindCoordinatorRequest(name, kind))
            check_code(answer.error_code, name)
            self._coordinators[kind, name] = answer.coordinator_id
        return self._coordinators[kind, name]

    async def any_node(self) -> int:
        """Any broker. Raises aiokafka's errors."""
        node: int | None = (await self._started()).get_random_node()
        if node is None:
            raise LeaderNotAvailableError("no broker is known")
        return node

    async def send(self, node: int, request: Any, lane: object = "ask") -> Any:
        """The answer. Requests of one lane share a connection and are answered one after the other, so
        that whoever lets the broker wait has a lane of its own. Raises aiokafka's errors.
        """
        return await (await self._started()).send(node, request, group=lane)

    async def close(self) -> None:
        """Whoever waits for an answer gets an error."""
        self.closed = True
        self._start_over()
        await asyncio.gather(*self._ending)

    async def _tried(self, attempt: Callable[[], Awaitable[_Result]], until: float) -> _Result:
        if self.closed:
            raise self._closed()
        async with asyncio.timeout_at(until):
            result = await attempt()
        self._worked_s = asyncio.get_running_loop().time()
        return result

    async def _started(self) -> AIOKafkaClient:
        async with self._starting:
            if self.closed:
                raise self._closed()
            if self._client is None:
                client = AIOKafkaClient(**self._options)
                try:
                    await client.bootstrap()
                except KafkaConnectionError:
                    await client.close()
                    await self._why_not()
                    raise
                except BaseException:
                    await client.close()
                    raise
                self._client, self._worked_s = client, asyncio.get_running_loop().time()
            return self._client

    async def _why_not(self) -> None:
        """Raises what aiokafka only logs: a refused login, a wrong certificate, no broker there."""
        host, port, _ = collect_hosts(self.settings.bootstrap)[0]
        options = {key: value for key, value in self._options.items() if key not in _OF_CLIENTS}
        (await create_conn(host, port, **options)).close()

    async def _looked(self, client: AIOKafkaClient) -> None:
        """Asks the brokers who leads what."""
        given_up = self._given_up
        await asyncio.wait([client.force_metadata_update(), given_up], return_when=asyncio.FIRST_COMPLETED)
        if given_up.done():
            raise KafkaConnectionError("given up")

    def _look_again(self, error: Exception) -> None:
        """Leaders and coordinators may have moved."""
        if isinstance(error, Refused) and error.code == ConcurrentTransactions.errno:
            return
        self._coordinators.clear()
        if self._client is not None:
            self._client.force_metadata_update()

    def _start_over(self) -> None:
        """The next request looks for the brokers at their first addresses again."""
        self._coordinators.clear()
        client, self._client = self._client, None
        self._given_up.set_result(None)
        self._given_up = asyncio.get_running_loop().create_future()
        if client is not None:
            task = asyncio.create_task(_close(client))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _closed(self) -> MeterflowError:
        return MeterflowError("the log is closed", where=self.settings.bootstrap)

    def _ours(self, doing: str, error: Exception) -> MeterflowError:
        code, where = getattr(error, "code", getattr(error, "errno", 0)), self.settings.bootstrap
        if isinstance(error, ssl.SSLError):
            return _no_tls(where, error)
        what = f"Kafka cannot {doing}: {str(error) or type(error).__name__}"
        if code in _FENCED:
            hint = "Nothing is lost: the other one goes on."
            return NotOwner("somebody else works on this partition now", where=where, hint=hint)
        if code in _LOGIN:
            return UsageError(what, where=where, hint="Put kafka.user, its password or the mechanism right.")
        if code in _REFUSED:
            user, names = self.settings.user or "ANONYMOUS", f"{self.settings.prefix}*"
            hint = f"Give the user {user} its rights on topics, groups and transactional ids {names}."
            return UsageError(what, where=where, hint=hint)
        if code in _TOO_LARGE:
            return MeterflowError(what, where=where, hint="Raise max.message.bytes of that topic.")
        if code == InvalidTimestampError.errno:
            hint = "The clocks of this machine and the brokers differ: put them right, then start it again."
            return Unavailable(what, where=where, hint=hint)
        if code == UnknownTopicOrPartitionError.errno:
            hint = "Let meterflow make its topics (meterflow doctor says which are missing)."
            return Unavailable(what, where=where, hint=hint)
        return Unavailable(what, where=where, hint="Work goes on by itself when the brokers answer again.")


def _no_tls(where: str, error: ssl.SSLError) -> Unavailable:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"Kafka's certificate is not trusted: {error.verify_message}"
        hint = "Give its authority as kafka.ca_file, and the name that it is made for in kafka.bootstrap."
        return Unavailable(what, where=where, hint=hint)
    what = f"no TLS with Kafka: {error.reason or error}"
    return Unavailable(what, where=where, hint="Is it a TLS port? Then look at kafka.tls and at its log.")


def _passes(error: Exception) -> bool:
    if isinstance(error, Refused):
        return error.code in _PASSING
    return not isinstance(error, KafkaError) or error.retriable or error.invalid_metadata


async def _close(client: AIOKafkaClient) -> None:
    with suppress(KafkaError, OSError, TimeoutError):
        async with asyncio.timeout(5):
            await client.close()
