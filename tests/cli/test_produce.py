"""What `headrace produce` says of a refused line."""

import pytest

from pipeline.cli.produce import refused_line
from pipeline.core.decode import Decoded, Decoder
from tests.core.kit import DOOR, event, record, rules_for, wire


@pytest.mark.parametrize(
    "line",
    [
        wire(event(data={"n": 1, "\x1b[31mX": 99999999999999999999})),
        wire({**event(), "\x1b]0;t\x07": 1}),
        wire(event()).replace(b'"source"', b'"\\u001b[31m":1,"\\u001b[31m":2,"source"'),
        wire(event(data={"n": 1, "\x1b[31mX": 1})),
        wire(event(tenant_id="\x1b[31m")),
    ],
)
def test_a_terminal_obeys_nothing_that_a_line_holds(line: bytes) -> None:
    """Keys and values are quoted in messages and pointers; control characters of theirs are not."""
    decoded = Decoded()
    Decoder(rules_for(DOOR)).decode_events([record(line)], decoded)
    [refusal] = decoded.refusals
    said = refused_line(7, refusal, 1_000)
    assert said.startswith(f"line 7: {refusal.code}")
    assert said.isprintable()
