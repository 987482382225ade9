"""The receipt of one request of the API: where its events went, in a text that its tenant holds. Nothing is stored."""

import hashlib
import zlib
from functools import lru_cache

import msgspec

from pipeline.core.arrived import Arrived
from pipeline.core.errors import Crossed
from pipeline.core.segment import Position
from pipeline.core.signed import MAX_CHARACTERS, sign, unsign


class ArrivalReceipt(msgspec.Struct, frozen=True, array_like=True):
    """Where the events of one request are: for each shard the furthest of them.

    Attributes:
        arrived_us: when the request was taken, by our clock.
        places: shard id, sequence number, index in its record.
        firsts: for each place the sequence number of the first record in its shard; "" where there is but one. Empty where
            that is so everywhere, and in receipts of older versions.
    """

    arrived_us: int
    places: tuple[tuple[str, str, int], ...]
    firsts: tuple[str, ...] = ()

    def arrived(self) -> dict[str, Arrived]:
        """Return by shard where the events are."""
        pairs = zip(self.places, self.firsts or ("",) * len(self.places), strict=True)
        return {
            shard: Arrived(Position(first or number, 0), Position(number, index), self.arrived_us)
            for (shard, number, index), first in pairs
        }


_PURPOSE, _PACKED = "receipt 1\0", "receipt 2\0"
_PACKED_FROM_BYTES = 2_048  # some ten shards; proxies in front of us may take no more than 8 KiB of a URL


class _Held(msgspec.Struct, frozen=True, array_like=True):
    tenant: bytes
    receipt: ArrivalReceipt


_DECODE = msgspec.msgpack.Decoder(_Held).decode


def receipt_text(receipt: ArrivalReceipt, key: bytes, stream: str, tenant_id: str) -> str | None:
    """Return a receipt as its tenant holds it; None: it names so many shards that it would fit into no URL."""
    said = receipt if receipt.firsts else (receipt.arrived_us, receipt.places)  # mostly: the shorter form
    body = msgspec.msgpack.encode((_digest(tenant_id), said))
    if len(body) < _PACKED_FROM_BYTES:
        return sign(body, key, _PURPOSE + stream)
    text = sign(zlib.compress(body), key, _PACKED + stream)
    return text if len(text) <= MAX_CHARACTERS else None


def read_receipt(text: str, key: bytes, stream: str, tenant_id: str) -> ArrivalReceipt | None:
    """Return what a receipt says; None when it is none of ours.

    Raises:
        Crossed: it is another tenant's.
    """
    body = unsign(text, key, _PURPOSE + stream)
    if body is None:
        packed = unsign(text, key, _PACKED + stream)
        if packed is None:
            return None
        body = zlib.decompress(packed)  # by us, so it is no bomb
    held = _DECODE(body)
    if held.tenant != _digest(tenant_id):
        raise Crossed("another tenant's receipt")
    return held.receipt


@lru_cache(maxsize=4_096)
def _digest(tenant_id: str) -> bytes:
    return hashlib.blake2b(tenant_id.encode(), digest_size=12).digest()
