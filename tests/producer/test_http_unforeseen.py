"""Both producers over HTTP when something raises that nobody foresaw: every event has a fate, and the program hears of it."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.core.errors import ConfigProblem
from pipeline.producer import Report
from pipeline.sending.http_answer import Outcome
from pipeline.sending.http_async import AsyncHttpProducer
from pipeline.sending.http_batch import HttpOptions
from pipeline.sending.http_credential import ApiKey, Ask
from pipeline.sending.http_target import Target
from pipeline.sending.http_threaded import HttpProducer
from tests.producer.numbered import numbered

_SECONDS = 20.0
_TARGET = Target("http://127.0.0.1:9", 1.0)
_OPTIONS = HttpOptions(lanes=1, linger_seconds=0.0, max_batch_events=1, close_seconds=_SECONDS)


class Torn:
    """A transport with a bug: it raises once both events are put."""

    def __init__(self) -> None:
        self.put = threading.Event()
        self.closed = 0

    def send(self, ask: Ask) -> Outcome:
        """Raise."""
        del ask
        assert self.put.wait(_SECONDS)
        raise TypeError("a bug of the transport")

    def close(self) -> None:
        """Count."""
        self.closed += 1


class AsyncTorn(Torn):
    """The same on an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()

    async def send(self, ask: Ask) -> Outcome:  # type: ignore[override]
        """Raise."""
        del ask
        self.begun.set()
        await asyncio.to_thread(self.put.wait, _SECONDS)
        raise TypeError("a bug of the transport")

    async def close(self) -> None:  # type: ignore[override]
        """Count."""
        self.closed += 1


Seen = tuple[list[int], Report, list[ConfigProblem], Report, Torn]


def _threaded() -> Seen:
    torn, raised = Torn(), list[ConfigProblem]()
    producer = HttpProducer(_TARGET, ApiKey("k"), _OPTIONS, lambda: torn)
    tickets = [producer.put(numbered(number)) for number in range(2)]
    torn.put.set()
    report = producer.flush(_SECONDS)
    for call in (lambda: producer.put(numbered(3)), lambda: producer.close(_SECONDS)):
        with pytest.raises(ConfigProblem) as caught:
            call()
        raised.append(caught.value)
    return tickets, report, raised, producer.last_report, torn


def _looped() -> Seen:
    async def run() -> Seen:
        torn, raised, told = AsyncTorn(), list[ConfigProblem](), list[dict[str, Any]]()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
        producer = AsyncHttpProducer(_TARGET, ApiKey("k"), _OPTIONS, lambda: torn)
        tickets = [await producer.put(numbered(number)) for number in range(2)]
        await torn.begun.wait()
        torn.put.set()
        report = await producer.flush(_SECONDS)
        for call in (lambda: producer.put(numbered(3)), lambda: producer.close(_SECONDS)):
            with pytest.raises(ConfigProblem) as caught:
                await call()
            raised.append(caught.value)
        assert [type(one["exception"]) for one in told] == [TypeError]
        return tickets, report, raised, producer.last_report, torn

    return asyncio.run(run())


@pytest.mark.parametrize("run", [_threaded, _looped])
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_bug_of_the_transport_is_heard_of(run: Callable[[], Seen]) -> None:
    """What was on its way is unknown, what was not is refused, each once; put and close raise with the bug as their cause."""
    tickets, report, raised, last, torn = run()
    assert [report.of(ticket).kind for ticket in tickets] == ["unknown", "refused"]
    assert all("TypeError: a bug of the transport" in report.of(ticket).why for ticket in tickets)
    assert (report.waiting, last.batches, torn.closed) == (0, (), 1)
    assert [type(one.__cause__) for one in raised] == [TypeError, TypeError]
    assert all("can send nothing any more" in str(one) for one in raised)


def test_whoever_waits_for_room_is_told() -> None:
    """A put that waits raises, for ever is over; the end of a block that failed by itself hides nothing of that."""

    async def run() -> None:
        torn = AsyncTorn()
        options = HttpOptions(lanes=1, linger_seconds=0.0, max_buffer_bytes=1)
        producer = AsyncHttpProducer(_TARGET, ApiKey("k"), options, lambda: torn)
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        with pytest.raises(ConfigProblem, match="TypeError"):  # noqa: PT012 - the end of the block raises, too
            async with producer:
                await producer.put(numbered(1))
                waiting = asyncio.ensure_future(producer.put(numbered(2), timeout=None))
                await asyncio.sleep(0)
                torn.put.set()
                await asyncio.wait_for(waiting, _SECONDS)
        assert producer.last_report.unknown == 1

    asyncio.run(run())
