"""Lines of a pipe: handed over as they come."""

import os
import threading

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


def test_steady_lines_do_not_wait_for_each_other() -> None:
    """A program that never pauses is told a pause too, so that what came is sent."""
    reading, writing = os.pipe()
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.005):
            os.write(writing, b"line\n")
        os.close(writing)

    writer = threading.Thread(target=write)
    writer.start()
    with os.fdopen(reading, "rb") as stream:
        lines = Arriving(stream, 8, 0.05)
        came = 0
        while lines.readline(8) is not None:
            came += 1
            assert came < 1_000
        ended.set()
        while lines.readline(8) != b"":
            pass
    writer.join()
