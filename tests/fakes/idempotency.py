"""Port `Requests` in memory."""

import threading
from dataclasses import replace

from pipeline.core.idempotency import Entry, StoredAnswer

MAX_ANSWER_BYTES = 300 * 1024


class MemoryRequests:
    """Entries by (tenant, key); each call is one step."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], Entry] = {}
        self._lock = threading.Lock()

    def claim(self, entry: Entry, now_us: int) -> Entry | None:
        """Store an entry where there is none."""
        with self._lock:
            found = self.stored.get((entry.tenant, entry.key))
            if found is not None and found.expires_us > now_us and found.owner != entry.owner:
                return found
            self.stored[entry.tenant, entry.key] = entry
            return None

    def take_over(self, found: Entry, owner: str, locked_until_us: int) -> bool:
        """Give an entry to another owner."""
        with self._lock:
            now = self._in_progress(found, found.owner) or self._in_progress(found, owner)
            if now is not None:
                self._put(replace(now, owner=owner, locked_until_us=locked_until_us))
            return now is not None

    def complete(self, entry: Entry, answer: StoredAnswer) -> bool:
        """Store the answer."""
        with self._lock:
            now = self.stored.get((entry.tenant, entry.key))
            if now is None or now.owner != entry.owner or len(answer.body) > MAX_ANSWER_BYTES:
                return False
            self._put(replace(now, answer=answer))
            return True

    def unlock(self, entry: Entry) -> None:
        """Let the next attempt begin."""
        with self._lock:
            now = self._in_progress(entry, entry.owner)
            if now is not None:
                self._put(replace(now, locked_until_us=0))

    def forget(self, entry: Entry) -> None:
        """Remove an entry."""
        with self._lock:
            if self._in_progress(entry, entry.owner):
                del self.stored[entry.tenant, entry.key]

    def _put(self, entry: Entry) -> None:
        self.stored[entry.tenant, entry.key] = entry

    def _in_progress(self, entry: Entry, owner: str) -> Entry | None:
        now = self.stored.get((entry.tenant, entry.key))
        return now if now and now.answer is None and now.owner == owner else None
