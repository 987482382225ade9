"""Reading the rows that a job's pointers name: each is held against whose it must be before anything is counted."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.core.entity_day import flagged_rows
from pipeline.core.errors import NotFound
from pipeline.core.find import OWNERS, Run, check_owner
from pipeline.core.index import Pointer
from pipeline.core.replay import Selection, columns_for
from pipeline.ports.reading import ReadRows


class RowsGone(NotFound):
    """A data file that pointers name is gone: no other loss, so that nothing else makes a job stale."""


def read_pointers(
    selection: Selection, pointers: Sequence[Pointer], columns: Sequence[str], read: ReadRows, named_by: str
) -> pa.Table:
    """Return the rows of some pointers into one file, in one read.

    Args:
        selection: whose rows they must be; the columns that `core.replay.matches` looks at are read too.
        pointers: of one file; at least one.
        columns: wanted beside those.
        read: reads rows.
        named_by: who says that they are there, for a message.

    Raises:
        RowsGone: the file is gone.
        Corrupt: it is unreadable, or a row is of another tenant or entity.
        Transient: try again.
    """
    key = pointers[0].key
    first = min(one.first_row for one in pointers)
    last = max(one.first_row + one.rows for one in pointers)
    wanted = list(dict.fromkeys([*OWNERS, *columns_for(selection), *columns]))
    try:
        rows = read(key, first, last - first, wanted)
    except NotFound as exc:
        raise RowsGone(f"{named_by} names {key}, which is gone: run `headrace audit`") from exc
    flags = np.zeros(last - first, dtype=np.bool_)
    for one in pointers:
        begin = one.first_row - first
        run = Run("", key, one.first_row, one.rows, 0, 0, 0, named_by, selection.entity_id)
        check_owner(selection.tenant_id, run, rows.slice(begin, one.rows))
        flags[begin : begin + one.rows] = True
    return flagged_rows(rows, flags)
