"""Where a flow hands over events that are to be sent."""

from typing import Protocol


class Sender(Protocol):
    """Takes events in order and sends them in batches; used by one thread. `pipeline.sending` has it."""

    def put(self, tenant_id: str, entity_id: str, payload: bytes) -> None:
        """Take one event: finished envelope JSON; may send, and block while the stream is busy.

        Raises:
            InvalidEvent: it fits into no record of the stream; it was not taken.
            Transient: the stream stayed busy; nothing that was put is forgotten.
        """
        ...

    def tick(self) -> None:
        """Send what has waited long enough; call now and then."""
        ...

    def flush(self) -> None:
        """Send everything; on return all of it is acknowledged."""
        ...
