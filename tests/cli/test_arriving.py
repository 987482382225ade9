"""Lines of a pipe: handed over as they come."""

import os

from pipeline.cli.arriving import Arriving


def test_a_pause_is_told_and_nothing_is_lost() -> None:
    """While nothing comes the reader learns it; then lines go on, the last one without its newline too."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        lines = Arriving(stream, 8, 0.01)
        assert lines.readline(8) is None
        os.write(writing, b"one\nlonger than eight\nlast")
        os.close(writing)
        got = []
        while (line := lines.readline(8)) != b"":
            if line is not None:
                got.append(line)
    assert b"".join(got) == b"one\nlonger than eight\nlast"
    assert max(map(len, got)) == 8
    assert lines.readline(8) == b""
