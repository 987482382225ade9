"""Gzipped bodies are taken or refused alike, however they are cut on the way and whether their head declares their size."""

import gzip
import random
import zlib
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.web.doors import MemorySink, make_door, web_settings
from tests.web.serving import Served, event, lines, serving

_HEADERS = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
_BLANKS = b" " * 400_000 + b"\n"  # about a thousand to one
_NOISE = "".join(random.Random(3).choices("abcdefgh", k=60_000))
_PIECES = [100, 3_000, 10_000_000]


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Return a server."""
    with serving(make_door(MemorySink())) as running:
        yield running


def _ask(served: Served, packed: bytes, piece: int, declares: bool) -> httpx.Response:
    cut = (packed[at : at + piece] for at in range(0, len(packed), piece))
    length = {"Content-Length": str(len(packed))} if declares else {}
    with served.client() as client:
        return client.post("/v1/events", content=cut, headers=_HEADERS | length)


@pytest.mark.parametrize("declares", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("piece", _PIECES)
def test_a_body_that_begins_with_blanks_is_taken(served: Served, piece: int, declares: bool) -> None:
    """What becomes 12 times as large in all is no bomb, though its first bytes become a thousand times as large."""
    packed = gzip.compress(_BLANKS + lines(event(source=_NOISE[:100])) + _more_noise())
    assert 5 < 460_000 / len(packed) < 25
    answer = _ask(served, packed, piece, declares)
    assert (answer.status_code, answer.json().get("code")) == (207, None)


def _more_noise() -> bytes:
    """Return a line that is no event, and does not become smaller."""
    return f'"{_NOISE}"\n'.encode()


@pytest.mark.parametrize("declares", [True, False], ids=["declared", "chunked"])
@pytest.mark.parametrize("piece", _PIECES)
def test_a_body_that_becomes_too_large_for_its_size_is_refused(
    served: Served, piece: int, declares: bool
) -> None:
    """Blanks alone, five million to five thousand: nothing of it is taken, not even the event in front."""
    packed = gzip.compress(lines(event(event_id="dense")) + _BLANKS * 13)
    answer = _ask(served, packed, piece, declares)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert "50 times" in answer.json()["detail"]


def test_a_large_body_is_inflated_to_the_last_byte(served: Served) -> None:
    """Many pieces of a quarter of a MiB, among them matches that reach over their ends."""
    some = [event(event_id=f"g-{number}", source=_NOISE[number : number + 100]) for number in range(400)]
    blanks = "".join(random.Random(4).choices(" \t\r", k=1_600_000)).encode()
    mixed = [lines(one) + blanks[4_000 * at : 4_000 * (at + 1)] + b"\n" for at, one in enumerate(some)]
    packed = gzip.compress(b"".join(mixed))
    answer = _ask(served, packed, 50_000, declares=True)
    assert (answer.status_code, answer.json().get("accepted")) == (202, 400)


def test_a_gzip_that_becomes_nothing_is_bounded_too() -> None:
    """Empty blocks without end, chunked: what arrived is more than a body may have, whatever comes out of it."""
    stream = zlib.compressobj(wbits=31)
    begun = stream.compress(lines(event())) + stream.flush(zlib.Z_SYNC_FLUSH)
    blocks = b"\x00\x00\x00\xff\xff" * 20_000  # of DEFLATE, stored, empty
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield begun
        for _ in range(100):
            sent += len(blocks)
            yield blocks
        yield stream.flush()

    with serving(make_door(MemorySink(), web_settings(web={"max_body_bytes": 2**20}))) as served:
        with served.client() as client, suppress(httpx.HTTPError):  # it may see the end instead of the answer
            assert client.post("/v1/events", content=endless(), headers=_HEADERS).status_code == 413
        assert sent < 100 * len(blocks)
