"""Files are written whole or not at all."""

from pathlib import Path

import pytest

from pipeline.machine.files import write_atomically


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    """A write that fails leaves the old file and no scrap."""
    path = tmp_path / "stack.json"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "text")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
