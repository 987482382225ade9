"""Every error that crosses a floor, in one tree.

HeadraceError
├── ConfigProblem     a setting, argument or file is wrong: the user mends it; nothing was done
│   └── StoreUnusable a table, bucket or queue of the deployment is missing, or closed to this role: an operator mends it
├── InvalidEvent      one event is refused: it goes to quarantine, its neighbours go on
├── NotFound          the named thing does not exist
│   └── Crossed       it is another tenant's: its caller is told that it does not exist
├── Transient         will work later: the same call may be repeated
├── OutcomeUnknown    nobody knows whether it happened: read back before anything else
├── EventsLost        acknowledged events may be gone from the stream unread: their sender has them, or nobody
├── LeaseLost         another worker owns this shard now: stop, write nothing more
├── Denied            a credential is missing, wrong or not for this (`core.caller`)
└── Corrupt           two writers disagree about one key, or bytes are not what their digest says: a person is needed
"""

from collections.abc import Sequence


class HeadraceError(Exception):
    """Root of the tree. The message names the thing, the limit and the next step."""


class ConfigProblem(HeadraceError):
    """A setting, argument or file is wrong; nothing was done."""


class StoreUnusable(ConfigProblem):
    """A table, bucket or queue of the deployment is missing, or closed to this process' role; nothing was done.

    Attributes:
        stores: which, by the names that all deployments share; empty where the message alone tells.
    """

    def __init__(self, message: str, stores: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.stores = stores


class InvalidEvent(HeadraceError):
    """One event is refused.

    Attributes:
        code: a stable word out of `pipeline.core.event.RefusalCode`.
        pointer: JSON pointer (RFC 6901) to the fault, "" for the whole event.
    """

    def __init__(self, code: str, pointer: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.pointer = pointer
        self.message = message


class NotFound(HeadraceError):
    """The named thing does not exist."""


class Crossed(NotFound):
    """The named thing is another tenant's: to its caller just `NotFound`, in a security fact an attempt."""


class Transient(HeadraceError):
    """Will work later: the same call may be repeated as it is.

    Attributes:
        spent: it was repeated already, for as long as it may take: whoever calls gives up.
    """

    spent = False


class OutcomeUnknown(HeadraceError):
    """Nobody knows whether the call took effect: read back before anything else.

    Attributes:
        spent: it was repeated already, for as long as it may take: whoever calls gives up.
    """

    spent = False


class EventsLost(HeadraceError):
    """Events that were acknowledged over HTTP may have been dropped by the stream before they were read.

    Attributes:
        tickets: theirs: of every event in a request that may have lost one.
    """

    def __init__(self, tickets: Sequence[int]) -> None:
        super().__init__(
            f"{len(tickets):,} acknowledged event{'s' * (len(tickets) != 1)} may be lost, dropped by the stream before being read: "
            "put again, with the same event_id, each that the archive does not have (GET /v1/events/{id})"
        )
        self.tickets = tuple(tickets)


class LeaseLost(HeadraceError):
    """Another worker owns this shard now."""


class Corrupt(HeadraceError):
    """Stored bytes contradict the ledger; going on would hide a loss."""
