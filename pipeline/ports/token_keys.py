"""Where the issuer of tokens publishes its keys."""

from typing import Protocol


class TokenKeys(Protocol):
    """The key set of one issuer. Asked by one thread at a time, at most once in some seconds."""

    def fetch(self) -> bytes:
        """Return the key set (RFC 7517) as it is published now; bounded in size and time.

        Raises:
            Transient: it does not answer in time, or not with a document of a key set's size.
        """
        ...
