"""What a limiter answers, and how a caller is told.

The fields follow draft-ietf-httpapi-ratelimit-headers-10: lists of structured fields (RFC 9651), an item for each limit:
`RateLimit-Policy: "requests";q=20;w=2` (so many in so many seconds) and `RateLimit: "requests";r=17;t=1` (so many are
left, and all are back in so many seconds).
"""

from functools import lru_cache
from typing import Literal

import msgspec

Which = Literal["", "requests", "events", "bytes", "month", "credential", "limit", "store"]


class Share(msgspec.Struct, frozen=True, gc=False):
    """One limit as its owner sees it now. What is left is an estimate: other processes spend of it too.

    Attributes:
        name: of the limit.
        limit: what it allows at once, or in its month.
        window_seconds: in which all of it comes back.
        remaining: what is left.
        reset_seconds: until all of it is back.
    """

    name: str
    limit: int
    window_seconds: int
    remaining: int
    reset_seconds: int


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One answer of the limiter.

    Attributes:
        allowed: whether it was taken.
        limit, remaining, reset_seconds: of the limit that decided, or of requests.
        retry_after_seconds: when the same may be tried again; 0 when allowed; None: it can never be allowed.
        which: the limit that refused; "" when allowed; `store`: the limiter's table does not answer.
        shares: every limit that is told in the answer's header.
        low: little is left of the lease; renew it beside the work.
        fields: `share_fields` of the shares, where they were written already.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after_seconds: int | None = 0
    which: Which = ""
    shares: tuple[Share, ...] = ()
    low: bool = False
    fields: dict[str, str] | None = None

    def headers(self) -> dict[str, str]:
        """Return the header fields of an answer."""
        found = share_fields(self.shares) if self.fields is None else self.fields
        if not self.allowed and self.retry_after_seconds is not None:
            found["Retry-After"] = str(self.retry_after_seconds)
        return found


def share_fields(shares: tuple[Share, ...]) -> dict[str, str]:
    """Return the header fields that tell of limits."""
    if not shares:
        return {}
    return {
        "RateLimit": ", ".join([f'"{one.name}";r={one.remaining};t={one.reset_seconds}' for one in shares]),
        "RateLimit-Policy": ", ".join([_policy(one.name, one.limit, one.window_seconds) for one in shares]),
    }


@lru_cache(maxsize=1_024)
def _policy(name: str, limit: int, window_seconds: int) -> str:
    return f'"{name}";q={limit};w={window_seconds}'
