"""The clients over HTTP into a server that only says 202: processor time of the client's process, all threads.

`python -m tests.bench.http_client` is that server: it reads a request, counts its lines, and accepts every one.
"""

import asyncio
import statistics
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import orjson

from pipeline.producer import Event, connect_http, connect_http_async
from tests.bench.data import events
from tests.bench.figure import Figure, cpu_seconds

_ROOM = 2**30  # processor time is measured, not waiting


def http_client(count: int, rounds: int) -> list[Figure]:
    """The clients over HTTP into a null server: typed events, finished bytes, the event loop's; of one core."""
    payloads = events(count)
    typed = [_typed(orjson.loads(one)) for one in payloads]
    with _null_server() as url:

        def threads() -> None:
            with connect_http(url, api_key="k", max_buffer_bytes=_ROOM) as producer:
                for one in typed:
                    producer.put(one)

        def finished() -> None:
            with connect_http(url, api_key="k", max_buffer_bytes=_ROOM) as producer:
                for one in payloads:
                    producer.put_json(one)

        async def on_loop() -> None:
            async with connect_http_async(url, api_key="k", max_buffer_bytes=_ROOM) as producer:
                for number, one in enumerate(typed):
                    await producer.put(one)
                    if number % 1_000 == 0:
                        await asyncio.sleep(0)

        cases = {
            "typed events, threads": threads,
            "finished bytes, threads": finished,
            "typed events, event loop": lambda: asyncio.run(on_loop()),
        }
        threads()  # imports, and the server's first connections
        return [
            Figure(
                f"HTTP client, {name}, gzip, null server",
                count / statistics.median(cpu_seconds(work) for _ in range(rounds)),
                "events/s/core",
            )
            for name, work in cases.items()
        ]


def _typed(one: dict[str, object]) -> Event:
    names = ("tenant_id", "entity_id", "event_type", "schema_version", "source", "data")
    return Event(**{name: one[name] for name in names})  # type: ignore[arg-type]


@contextmanager
def _null_server() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.bench.http_client"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


@lru_cache
def _accepted(count: int) -> bytes:
    answers = [{"index": index, "status": "accepted", "event_id": "0" * 36} for index in range(count)]
    body = orjson.dumps({"request_id": "1", "receipt": "r" * 100, "events": answers})
    return (
        b"HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        + body
    )


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            body = await reader.readexactly(size)
            text = zlib.decompress(body, 31) if b"content-encoding: gzip" in head else body
            writer.write(_accepted(text.count(b"\n")))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _serve() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
