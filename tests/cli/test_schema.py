"""`headrace schema ddl`: what it says beside the files."""

from pathlib import Path

from click.testing import CliRunner

from pipeline.cli import schema


def test_new_tables_are_a_reason_to_restart_loaders(tmp_path: Path) -> None:
    """Files that were written say that a schema changed; where none was, or only a check, nobody is asked to restart."""
    out = ["ddl", "--out", str(tmp_path)]
    said = [CliRunner().invoke(schema.command, [*out, *more]).stderr for more in (["--check"], [], [])]
    assert ["restart them" in one for one in said] == [False, True, False]
