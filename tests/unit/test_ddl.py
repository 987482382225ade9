"""The generated DDL: equal to what is checked in, and right where a schema is difficult."""

from pathlib import Path

import pytest
import sqlglot
from sqlglot import exp

from pipeline.core.catalogue import catalogue, columns_of_relation
from pipeline.core.ddl import MAX_COMMENT_CHARS, ddl_files
from pipeline.core.errors import ConfigProblem
from pipeline.core.schema import TypeSchema, group_types
from pipeline.machine.schema_files import load_schemas
from tests.fakes.files import types_of

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "athena" / "tables"
HARD = {
    "date": {
        "type": "string",
        "format": "date",
        "description": "A reserved word's day; it's \\ quoted.\nTwice.",
    },
    "At": {"type": "string", "format": "date-time"},
    "ok": {"type": "boolean", "description": "long " * 100},
    "any": {},
    "price": {"type": "number"},
    "select": {
        "type": "object",
        "properties": {
            "from": {"type": "integer"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    },
    "stops": {
        "type": "array",
        "items": {"type": "object", "properties": {"at": {"type": "string", "format": "date-time"}}},
    },
    "event_id": {"type": "string"},
}


@pytest.fixture
def hard() -> dict[str, str]:
    """The files of one type with every kind of column."""
    return ddl_files(types_of({("shop.order-placed", 1): HARD}))


def test_checked_in_ddl_is_what_the_schemas_give() -> None:
    """Regenerating gives the files under athena/tables, to the byte: no more, no fewer."""
    wanted = ddl_files(group_types(load_schemas(ROOT / "schemas")))
    assert {path.name: path.read_text(encoding="utf-8") for path in TABLES.iterdir()} == wanted


def test_columns_have_athenas_types(hard: dict[str, str]) -> None:
    """Every kind of property becomes the documented type, nested ones and reserved words in back quotes."""
    lines = hard["shop_order_placed__open.sql"].splitlines()
    for line in (
        "  `at` timestamp,",
        "  `any` string,",
        "  `price` double,",
        "  `select` struct<`from`:bigint,`tags`:array<string>>,",
        "  `stops` array<struct<`at`:timestamp>>,",
        "  `data_event_id` string",
    ):
        assert line in lines
    assert any(line.startswith("  `schema_version` int ") for line in lines)
    assert any(line.startswith("  `ok` boolean COMMENT 'long ") for line in lines)
    assert "`raw` binary" in hard["quarantine__refused.sql"]


def test_comments_are_escaped_and_fit(hard: dict[str, str]) -> None:
    """A description is one line, its quotes and backslashes escaped, cut at a word below Glue's limit."""
    text = hard["shop_order_placed__open.sql"]
    assert "`date` date COMMENT 'A reserved word\\'s day; it\\'s \\\\ quoted. Twice.'" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  `ok` ")]
    comment = line.split("COMMENT ")[1].strip(",")[1:-1]
    assert len(comment) <= MAX_COMMENT_CHARS
    assert comment.endswith("long...")


def test_partitions_are_projected(hard: dict[str, str]) -> None:
    """A type is partitioned by day under its own prefix; `events` by type and day; quarantine by day of arrival."""
    mine, events, refused = (
        hard[f"{name}.sql"] for name in ("shop_order_placed__open", "events__open", "quarantine__refused")
    )
    assert "LOCATION 's3://${bucket}/events/event_type=shop.order-placed/'" in mine
    assert "'s3://${bucket}/events/event_type=shop.order-placed/dt=${dt}/'" in mine
    assert "'projection.event_type.values' = 'shop.order-placed'" in events
    assert "'s3://${bucket}/events/event_type=${event_type}/dt=${dt}/'" in events
    assert "'s3://${bucket}/quarantine/dt=${dt}/'" in refused


def test_a_view_leaves_duplicates_out(hard: dict[str, str]) -> None:
    """The view reads `_raw`, without its flag and tier; `_raw` names the tier of each part."""
    view, raw = hard["shop_order_placed.sql"], hard["shop_order_placed_raw.sql"]
    assert 'FROM "${database}"."shop_order_placed_raw"\nWHERE NOT "is_duplicate";' in view
    assert '"tier"' not in view
    assert "'shop.order-placed' AS \"event_type\"" in raw
    assert "'open' AS \"tier\"" in raw


def test_views_have_the_columns_the_catalogue_says(hard: dict[str, str]) -> None:
    """What a view's text selects is what `columns_of_relation` promises, in order."""
    relations = catalogue(types_of({("shop.order-placed", 1): HARD}))
    for name in ("shop_order_placed", "shop_order_placed_raw", "events", "events_raw", "quarantine"):
        select = hard[f"{name}.sql"].split(" AS\n", 1)[1]
        query = sqlglot.parse_one(select, dialect="athena")
        assert isinstance(query, exp.Query)
        assert query.named_selects == [column.name for column in columns_of_relation(relations[name])]


def test_every_file_is_one_statement_with_known_placeholders(hard: dict[str, str]) -> None:
    """Besides `${bucket}` and `${database}` only the projection's own placeholders appear."""
    for text in hard.values():
        assert text.count(";\n") == 1
        words = {part.split("}")[0] for part in text.split("${")[1:]}
        assert words <= {"bucket", "database", "dt", "event_type"}


@pytest.mark.parametrize(
    "names",
    [
        ("events",),
        ("quarantine",),
        ("quarantine__redriven",),
        ("events_raw",),
        ("a", "a_raw"),
        ("a", "a__open"),
        ("events.raw",),
    ],
)
def test_names_of_the_catalogue_are_not_for_event_types(names: tuple[str, ...]) -> None:
    """A type whose table or view would share a name with another relation is refused by name."""
    types: dict[str, TypeSchema] = types_of({(name, 1): {} for name in names})
    with pytest.raises(ConfigProblem, match=names[-1]):
        catalogue(types)
