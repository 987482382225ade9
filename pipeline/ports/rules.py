"""The newest rules: those of the settings, and what the control store adds while processes run."""

from typing import Protocol

from pipeline.core.rules import Rules


class NewestRules(Protocol):
    """What events are to be judged by. One of it serves all threads of a process; tenants and schemas are only ever added."""

    def __call__(self) -> Rules:
        """Return the newest rules known, without waiting; a look that is due goes on beside. Safe on an event loop."""
        ...

    def newest(self, since_us: int) -> Rules:
        """Return rules as they were at `since_us` or later; waits for a look when the last one is older.

        Raises:
            Transient: the control store does not answer; what `__call__` returns is all that is known.
            ConfigProblem: what the control store has contradicts the schema files.
        """
        ...
