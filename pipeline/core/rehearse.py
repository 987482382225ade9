"""Everything that is computed from records on their way into a segment, done for nothing: does it come to an end?

Called in a process of its own, for records that are suspected to kill the one they are in.
"""

from collections.abc import Sequence

import numpy as np
import orjson

from pipeline.core.aggregate import apply, fold_refusals, fold_rows
from pipeline.core.decode import Decoder
from pipeline.core.encode import Place, encode_refusals, encode_rows
from pipeline.core.event import Record
from pipeline.core.index import build_index
from pipeline.core.keys import ids_key
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rules import Rules, make_rules
from pipeline.core.schema import parse_schema
from pipeline.core.segment import Lineage, SealState
from pipeline.core.staging import Effects, StagedObject, digest_of, stage
from pipeline.core.window import encode_ids

_EVENT = {
    "event_id": "",
    "tenant_id": "control",
    "entity_id": "one",
    "event_type": "control",
    "schema_version": 1,
    "source": "control",
    "event_time": "2001-09-09T01:00:00Z",
    "data": {"count": 7, "label": "all is well", "at": "2001-09-09T01:00:00Z", "ratio": 0.5},
}
_ARRIVED_US = 10**15  # 2001-09-09T01:46:40Z
_GOOD = 200
_NOWHERE = Lineage("rehearsal", "0000", "rehearsal", "rehearsal")


def good_ones(rules: Rules) -> tuple[Rules, list[Record]]:
    """Return events that nobody dies of where everything works, with rules of their own; limits and envelope are those given.

    Most become rows; one is refused, so that the other half of the encoding is done as well.
    """
    types = {"count": "integer", "label": "string", "ratio": "number"}
    properties: dict[str, dict[str, str]] = {name: {"type": kind} for name, kind in types.items()}
    properties["at"] = {"type": "string", "format": "date-time"}
    schema = parse_schema("control", 1, {"type": "object", "properties": properties})
    events = [orjson.dumps(_EVENT | {"event_id": f"control-{number}"}) for number in range(_GOOD)]
    records = [
        Record(str(number), "control", data, _ARRIVED_US) for number, data in enumerate([*events, b"{"], 1)
    ]
    return make_rules([schema], ["control"], rules.limits, rules.envelope_document), records


def rehearse(records: Sequence[Record], rules: Rules) -> None:
    """Decode records and encode a segment of them, as `pipeline.flows.load` does."""
    held, place = OpenSegment(Decoder(rules), rules.schemas), Place(_NOWHERE, 1, SealState())
    held.add(records)
    prints = held.fingerprints()
    rows = encode_rows(held.chunks, np.zeros(len(prints), dtype=np.bool_), held.records, place)
    files = rows.files + encode_refusals(held.refusals, held.records, place)
    objects = [StagedObject(entry.key, body, entry.digest) for entry, body in files]
    ids = encode_ids(prints)
    objects.append(StagedObject(ids_key(_NOWHERE.short, 1), ids, digest_of(ids)))
    totals = fold_rows(rows.filed, rows.words, _NOWHERE.short)
    fold_refusals(totals, held.refusals, held.records, rules, _NOWHERE.short)
    stage(
        Effects(
            _NOWHERE.short,
            1,
            tuple(objects),
            tuple(entry for entry, _ in files),
            tuple(build_index(rows.filed, rows.words, place.writer)),
            tuple(apply({}, totals, 1)),
        )
    )
