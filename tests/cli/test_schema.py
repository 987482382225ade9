"""`headrace schema ddl`: what it says beside the files."""

from pathlib import Path

from click.testing import CliRunner

from pipeline.cli import schema


def test_new_tables_are_a_reason_to_restart_loaders(tmp_path: Path) -> None:
    """Files that were written say that a schema changed; where none was, or only a check, nobody is asked to restart."""
    out = ["ddl", "--out", str(tmp_path)]
    said = [CliRunner().invoke(schema.command, [*out, *more]).stderr for more in (["--check"], [], [])]
    assert ["restart them" in one for one in said] == [False, True, False]


def test_a_published_schema_is_no_reason_to_restart_loaders(tmp_path: Path) -> None:
    """They know it by themselves; its table is written all the same."""
    tables, file = tmp_path / "tables", tmp_path / "door.opened" / "1.json"
    file.parent.mkdir()
    file.write_text('{"type": "object", "properties": {"n": {"type": "integer"}}}')
    home = ["--home", str(tmp_path / "home")]
    said = [
        CliRunner().invoke(schema.command, [*words, *home], catch_exceptions=False).stderr
        for words in (
            ["ddl", "--out", str(tables)],
            ["publish", str(file)],
            ["ddl", "--out", str(tables)],
        )
    ]
    assert ["restart them" in one for one in said] == [True, False, False]
    assert (tables / "door_opened.sql").exists()


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    """Before anything is asked about its version."""
    words = ["publish", str(tmp_path / "nothere.json"), "--home", str(tmp_path / "home")]
    done = CliRunner().invoke(schema.command, words)
    assert "nothere.json: cannot be read: No such file" in str(done.exception)
