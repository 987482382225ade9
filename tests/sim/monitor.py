"""What must hold after every single effect."""

from pipeline.core.segment import SealState, Segment
from tests.fakes.ledger import MemoryLedger
from tests.fakes.objects import MemoryObjects, Stored
from tests.sim.archive import Place, StoredRefusal, StoredRow, is_data, read_file
from tests.sim.invariants import Invariant, ViolatedError


class Monitor:
    """Looks at what an effect touched; keeps what the final check needs to know of the past."""

    def __init__(self, ledger: MemoryLedger, objects: MemoryObjects) -> None:
        self._ledger, self._objects = ledger, objects
        self._bodies: dict[str, Stored] = {}
        self._decided: dict[tuple[str, int], Segment] = {}
        self._visible: dict[Place, str] = {}
        self.seals: dict[tuple[str, int], SealState] = {}  # as they were when each plan took hold
        self.rows: dict[str, list[StoredRow]] = {}
        self.refusals: dict[str, list[StoredRefusal]] = {}

    def after(self, effect: str) -> None:
        """Check what holds after an effect.

        Raises:
            ViolatedError: it does not.
        """
        name, _, what = effect.partition(" ")
        if name == "objects.put":
            self._after_put(what)
        elif name == "ledger.plan":
            lineage, _, ordinal = what.rpartition("/")
            self._after_plan((lineage, int(ordinal)))

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
            self._appear(key, stored.body)

    def _appear(self, key: str, body: bytes) -> None:
        found = read_file(key, body)
        for one in found:
            before = self._visible.setdefault(one.place, key)
            if before != key:
                raise ViolatedError(Invariant.NOT_REPEATED, f"{one.place} is in {before} and in {key}")
        self.rows[key] = [one for one in found if isinstance(one, StoredRow)]
        self.refusals[key] = [one for one in found if isinstance(one, StoredRefusal)]

    def _after_plan(self, key: tuple[str, int]) -> None:
        found, known = self._ledger.rows.get(key), self._decided.get(key)
        if found is None or (known is not None and known.committed() == found.committed()):
            return
        if known is not None:
            raise ViolatedError(Invariant.DECIDED_ONCE, f"{key}: {known} became {found}")
        self._decided[key] = found
        self.seals[key] = self._ledger.seal
