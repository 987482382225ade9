"""The page on formats: every example becomes what the page says, in every packing."""

import gzip
import json
import re
from pathlib import Path

import pytest

from pipeline.core.cloudevents import ATTRIBUTES
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Limits
from pipeline.core.kpl import Aggregate
from pipeline.core.rules import make_rules
from pipeline.core.schema import parse_schema
from tests.core.kit import ENVELOPE, record

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
SCHEMA, *_ = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
EXAMPLES = re.findall(r"^```json\n((?:(?!```).)*?)^```\n\nBecomes: ([^\n]*)$", PAGE, re.MULTILINE | re.DOTALL)
LATER_US = 1_800_000_000_000_000  # after every event of the page


def test_the_page_has_its_examples() -> None:
    """One for each form."""
    assert len(EXAMPLES) == 7
    assert PAGE.count("```json") == 8


def _aggregate(data: bytes) -> bytes:
    made = Aggregate()
    made.add(data)
    return made.encode("key", "0")


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, _aggregate, lambda data: _aggregate(gzip.compress(data))]
)
@pytest.mark.parametrize(("example", "becomes"), EXAMPLES)
def test_every_example_becomes_what_the_page_says(example: str, becomes: str, pack: object) -> None:
    """Rows and refusals are those that are named, with their pointers."""
    assert callable(pack)
    rules = make_rules([parse_schema("door.opened", 1, json.loads(SCHEMA))], ["acme"], Limits(), ENVELOPE)
    decoded = Decoded()
    Decoder(rules).decode([record(pack(example.encode()), arrived_us=LATER_US)], 0, decoded)
    said = [f"{len(decoded.rows)} row{'s' * (len(decoded.rows) > 1)}"] if decoded.rows else []
    said += [f"`{one.code}`" + (f" at `{one.pointer}`" if one.pointer else "") for one in decoded.refusals]
    assert ", ".join(said) == becomes


def test_the_table_of_attributes_is_that_of_the_code() -> None:
    """Each attribute beside the field that it becomes."""
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == {attribute: name for name, attribute in ATTRIBUTES.items()}


def test_the_limits_are_the_defaults() -> None:
    """The numbers of the page are those that hold."""
    limits = Limits()
    assert f"`events.max_record_events` ({limits.max_record_events:,})" in PAGE
    assert f"`events.max_inflated_bytes` ({limits.max_inflated_bytes >> 20} MiB)" in PAGE
    assert f"`events.max_packed_bytes` ({limits.max_packed_bytes >> 20} MiB)" in PAGE
    assert f"`events.max_inflation` ({limits.max_inflation})" in PAGE
