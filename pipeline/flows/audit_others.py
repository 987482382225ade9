"""The audit's look at what no manifest names: fingerprints, rules, and what planned segments were staged as."""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from pipeline.core.audit import Difference
from pipeline.core.errors import Corrupt, NotFound
from pipeline.core.keys import RULES, SegmentRef, ids_key, staged_digest
from pipeline.core.rules import rules_digest
from pipeline.core.segment import Segment
from pipeline.core.staging import digest_of, unstage
from pipeline.core.window import Fingerprints, decode_ids, ids_size
from pipeline.ports.ledger import Ledger
from pipeline.ports.objects import Objects


def prints_digest(prints: Fingerprints) -> str:
    """Return what tells sets of fingerprints apart, whatever their order."""
    order = np.lexsort((prints.low, prints.high))
    return digest_of(prints.high[order].tobytes() + prints.low[order].tobytes())


def stored_prints(objects: Objects, segment: SegmentRef, rows: int) -> str:
    """Return the digest of a segment's ids file; "" when it is gone or of another size, which the listing tells."""
    try:
        data = objects.get(ids_key(*segment))
        return prints_digest(decode_ids(data)) if len(data) == ids_size(rows) else ""
    except NotFound:
        return ""
    except Corrupt as problem:
        return str(problem)


def stray_ids(listed: Mapping[str, str], known: Collection[str]) -> list[Difference]:
    """Name the ids files of no segment; by key, the segment that each is of."""
    message = "the bucket holds fingerprints of a segment that the ledger does not hold"
    return [Difference("ids_stray", key, message) for key, name in listed.items() if name not in known]


def altered_rules(objects: Objects) -> list[Difference]:
    """Name the rules that are not what their name says."""
    message = "these rules are not those that were written: nobody can say by what segments were judged"
    found = []
    for info in objects.list(RULES):
        try:
            digest = rules_digest(objects.get(info.key))
        except NotFound:
            continue  # gone between listing and reading; a segment that needs it names it
        if info.key != f"{RULES}{digest}.json":
            found.append(Difference("rules_altered", info.key, message))
    return found


def unstaged(objects: Objects, ledger: Ledger, segments: Iterable[Segment]) -> list[Difference]:
    """Name the planned segments that nobody can finish: their staged effects are gone, or are not what was planned."""
    found = []
    for one in segments:
        if one.state == "committed":
            continue
        name, problem = one.ref.name, ""
        try:
            effects = unstage(objects.get(one.staging_key), staged_digest(one.staging_key))
            if (effects.lineage, effects.ordinal) != one.ref:
                problem = f"{one.staging_key} is of another segment"
        except NotFound:
            problem = f"{one.staging_key} is gone"
        except (Corrupt, LookupError) as exc:
            problem = str(exc)
        now = ledger.segment(*one.ref)
        if problem and now is not None and now.state != "committed":  # finished meanwhile: nobody needs it
            message = f"planned, and cannot be finished: {problem}; see `A planned segment whose staging object is gone`"
            found.append(Difference("staging_altered", name, message))
    return found
