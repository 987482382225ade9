"""What must hold after every single effect."""

from collections.abc import Iterable
from itertools import islice

from pipeline.core.errors import HeadraceError
from pipeline.core.keys import staged_digest
from pipeline.core.segment import SealState, Segment
from pipeline.core.staging import Effects, unstage
from tests.fakes.index import MemoryAggregates, MemoryIndex
from tests.fakes.ledger import MemoryLedger
from tests.fakes.manifest import MemoryManifest
from tests.fakes.objects import MemoryObjects, Stored
from tests.sim.archive import Place, StoredFile, StoredRefusal, StoredRow, is_data, read_file
from tests.sim.invariants import Invariant, ViolatedError

_Segment = tuple[str, int]


class Monitor:
    """Looks at what an effect touched; keeps what the final check needs to know of the past."""

    def __init__(
        self,
        ledger: MemoryLedger,
        objects: MemoryObjects,
        manifest: MemoryManifest,
        index: MemoryIndex,
        aggregates: MemoryAggregates,
    ) -> None:
        self._ledger, self._objects = ledger, objects
        self._manifest, self._index, self._aggregates = manifest, index, aggregates
        self._bodies: dict[str, Stored] = {}
        self._decided: dict[_Segment, Segment] = {}
        self._staged: dict[_Segment, Effects] = {}
        self.committed: set[_Segment] = set()
        self._visible: dict[Place, str] = {}
        self._items_seen = 0
        self._totals_seen: dict[tuple[str, str], int] = {}
        self.seals: dict[_Segment, SealState] = {}  # as they were when each plan took hold
        self.files: dict[str, StoredFile] = {}

    @property
    def rows(self) -> dict[str, list[StoredRow]]:
        """Return the rows of each data file; none for quarantine."""
        return {key: file.rows for key, file in self.files.items()}

    @property
    def refusals(self) -> dict[str, list[StoredRefusal]]:
        """Return the refused units of each file of quarantine."""
        return {key: file.refusals for key, file in self.files.items()}

    def after(self, effect: str) -> None:
        """Check what holds after an effect.

        Raises:
            ViolatedError: it does not.
        """
        name, _, what = effect.partition(" ")
        if name == "objects.put":
            self._after_put(what)
        elif name == "index.put_all":
            self._after_index()
        elif name == "aggregates.put_newer":
            self._after_totals()
        elif name in {"ledger.plan", "ledger.commit"}:
            lineage, _, ordinal = what.rpartition("/")
            key = (lineage, int(ordinal))
            if name == "ledger.plan":
                self._after_plan(key)
            else:
                self._after_commit(key)

    def _after_put(self, key: str) -> None:
        stored, known = self._objects.stored.get(key), self._bodies.get(key)
        if stored is None or stored is known:
            return
        if known is not None:
            if known != stored:
                raise ViolatedError(Invariant.UNCHANGED, f"{key}: {known.digest} became {stored.digest}")
            return
        self._bodies[key] = stored
        if is_data(key):
            lineage, ordinal = key.rpartition("/")[2].removesuffix(".parquet").rsplit("-", 1)
            self._is_decided(lineage, int(ordinal), key)
            self._appear(key, stored.body)

    def _is_decided(self, lineage: str, ordinal: int, what: str) -> None:
        if (lineage, ordinal) not in self._ledger.rows:
            raise ViolatedError(
                Invariant.DECIDED_FIRST, f"{what} is there, {lineage}/{ordinal} is not planned"
            )

    def _appear(self, key: str, body: bytes) -> None:
        file = self.files[key] = read_file(key, body)
        places = [one.place for one in file.rows] + [one.place for one in file.refusals]
        for place in places:
            before = self._visible.setdefault(place, key)
            if before != key:
                raise ViolatedError(Invariant.NOT_REPEATED, f"{place} is in {before} and in {key}")

    def _after_plan(self, key: _Segment) -> None:
        found, known = self._ledger.rows.get(key), self._decided.get(key)
        if found is None or (known is not None and known.committed() == found.committed()):
            return
        if known is not None:
            raise ViolatedError(Invariant.DECIDED_ONCE, f"{key}: {known} became {found}")
        self._decided[key] = found
        self.seals[key] = self._ledger.seal

    def staged(self, key: _Segment) -> Effects | None:
        """Return what a decided segment's staging object says; None when it cannot be read, which the end will show."""
        segment = self._ledger.rows.get(key)
        if key not in self._staged and segment is not None:
            try:
                body = self._objects.get(segment.staging_key)
                self._staged[key] = unstage(body, staged_digest(segment.staging_key))
            except HeadraceError:
                return None
        return self._staged.get(key)

    def _after_index(self) -> None:
        """Rows before index: whoever follows a pointer finds its file."""
        new = list(islice(self._index.items, self._items_seen, None))
        self._items_seen += len(new)
        segments = {(name.split("#")[2], int(name.split("#")[3])) for _, name in new}
        for key in sorted(segments):
            self._is_decided(*key, "an index item")
            self._whole(key, "index", index=False)

    def _after_totals(self) -> None:
        """Index before totals: nothing is counted that cannot be found."""
        segments: set[_Segment] = set()
        for key, one in self._aggregates.items.items():
            if self._totals_seen.get(key) != one.last_ordinal:
                self._totals_seen[key] = one.last_ordinal
                segments.add((key.name.split("#")[2], one.last_ordinal))
        for found in sorted(segments):
            self._is_decided(*found, "a total")
            self._whole(found, "totals")

    def _whole(self, key: _Segment, what: str, *, index: bool = True) -> None:
        missing = list(self._missing(key, index=index))
        if missing:
            raise ViolatedError(
                Invariant.IN_ORDER, f"{what} of {key[0]}/{key[1]} are there before {missing[0]}"
            )

    def _missing(self, key: _Segment, *, index: bool) -> Iterable[str]:
        effects = self.staged(key)
        if effects is None:
            return
        yield from (one.key for one in effects.objects if one.key not in self._objects.stored)
        if index:
            items = ((one.partition, one.name) for one in effects.index)
            yield from (" ".join(item) for item in items if item not in self._index.items)

    def _after_commit(self, key: _Segment) -> None:
        """A committed segment is complete and follows a committed one: nothing before its end is missing anywhere."""
        found = self._ledger.rows.get(key)
        if found is None or found.state != "committed" or key in self.committed:
            return
        self.committed.add(key)
        before = self._ledger.rows.get((key[0], key[1] - 1))
        end = before.end if before is not None else None
        if (key[1] > 1 and (before is None or before.state != "committed")) or found.start != end:
            raise ViolatedError(Invariant.COMPLETE, f"{key} is committed from {found.start}, after {before}")
        missing = [*self._missing(key, index=True), *self._uncounted(key)]
        if missing:
            raise ViolatedError(Invariant.COMPLETE, f"{key} is committed without {missing[0]}")

    def _uncounted(self, key: _Segment) -> Iterable[str]:
        effects = self.staged(key)
        for entry in effects.entries if effects else ():
            if (entry.partition, entry.name) not in self._manifest.entries:
                yield f"the manifest's entry of {entry.key}"
        for total in effects.aggregates if effects else ():
            stored = self._aggregates.items.get(total.key)
            if stored is None or stored.last_ordinal < total.last_ordinal:
                yield f"the total {total.key}"
