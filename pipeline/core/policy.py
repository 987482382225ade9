"""A limit of the rate-limit service: given with a check, or by a name that its tenant gave it."""

from functools import lru_cache
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.bucket import Bucket
from pipeline.core.lease import Terms

MAX_TOKENS = 10**9  # levels of all limits stay within the 38 digits of a stored number
MAX_SECONDS = 31 * 86_400

Count = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token bucket: `tokens` come back in `seconds`, evenly; it holds `burst`, by default as many."""

    tokens: Count
    seconds: Annotated[int, Meta(ge=1, le=MAX_SECONDS)] = 1
    burst: Count | None = None

    @property
    def holds(self) -> int:
        """Return what the bucket holds."""
        return self.burst or self.tokens

    def terms(self) -> Terms:
        """Return what an account under this limit allows; the same object each time, as long as it is in use."""
        return _terms(self)


@lru_cache(4_096)
def _terms(limit: Limit) -> Terms:
    return Terms((Bucket(limit.tokens, limit.seconds, limit.holds),))


class Policy(msgspec.Struct, frozen=True):
    """A limit with a name of its tenant's."""

    name: str
    limit: Limit
