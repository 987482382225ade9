"""Questions to `headrace counts` and the SQL that must give the same."""

from typing import NamedTuple


class Asked(NamedTuple):
    """Arguments of `headrace counts`, and rows (group, events, duplicates) in SQL."""

    words: str
    sql: str


_SELECT = (
    "SELECT {group} AS name, sum(CASE WHEN is_duplicate THEN 0 ELSE 1 END) AS events, "
    "sum(CASE WHEN is_duplicate THEN 1 ELSE 0 END) AS duplicates FROM events_raw WHERE {where} GROUP BY 1 ORDER BY 1"
)


def _asked(words: str, group: str, where: str) -> Asked:
    return Asked(words, _SELECT.format(group=group, where=where))


HOUR = "date_format(event_time, '%Y-%m-%dT%H:00:00Z')"
ASKED = [
    _asked("--tenant ua --by type", "event_type", "tenant_id = 'ua'"),
    _asked(
        "--tenant ua --by day --type flight.landed", "dt", "tenant_id = 'ua' AND event_type = 'flight.landed'"
    ),
    _asked("--tenant b6 --by source", "source", "tenant_id = 'b6'"),
    _asked(
        "--tenant b6 --by hour --source JFK --from 2013-01-01 --to 2013-01-03",
        HOUR,
        "tenant_id = 'b6' AND source = 'JFK' AND dt BETWEEN '2013-01-01' AND '2013-01-03'",
    ),
    _asked(
        "--tenant ua --by day --from 2013-01-01T10:30:00Z --to 2013-01-04T20:15:00Z",
        "dt",
        "tenant_id = 'ua' AND event_time >= TIMESTAMP '2013-01-01 10:30:00' AND event_time < TIMESTAMP '2013-01-04 20:15:00'",
    ),
    _asked("--tenant ua --entity N14228 --by day", "dt", "tenant_id = 'ua' AND entity_id = 'N14228'"),
    _asked("--tenant ua --entity N14228 --by hour", HOUR, "tenant_id = 'ua' AND entity_id = 'N14228'"),
]
