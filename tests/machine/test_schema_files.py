"""Reading schemas/: every fault names the file and what is wrong in it."""

from pathlib import Path

import pytest

from pipeline.core.errors import ConfigProblem
from pipeline.machine.schema_files import load_envelope, load_schemas

GOOD = '{"type": "object", "properties": {"a": {"type": "integer"}}}'


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def test_versions_are_read_in_order(tmp_path: Path) -> None:
    """Types and versions come sorted, versions as numbers; the envelope and hidden files are no schemas."""
    write(tmp_path, **{f"b.x__{number}.json": GOOD for number in (10, 9)}, **{"a__1.json": GOOD})
    write(tmp_path, **{"envelope.json": GOOD, ".hidden": "x"})
    found = [(schema.event_type, schema.version) for schema in load_schemas(tmp_path)]
    assert found == [("a", 1), ("b.x", 9), ("b.x", 10)]
    assert load_envelope(tmp_path)["type"] == "object"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("a__1.json", "{", r"a/1\.json: line 1, column 2: "),
        ("a__1.json", "[]", r"a/1\.json: a schema is a JSON object"),
        (
            "a__1.json",
            '{"type": "object", "properties": {"x": {"type": "int"}}}',
            r"a/1\.json: \$\.properties\.x",
        ),
        ("a__1.json", '{"type": "array"}', r'a/1\.json: .*"type": "object"'),
        ("a__01.json", GOOD, r"a/01\.json: a schema file is named <version>\.json"),
        ("a__0.json", GOOD, r"a/0\.json: .*version is >= 1"),
        ("a__one.json", GOOD, r"a/one\.json: a schema file is named"),
        ("A__1.json", GOOD, r"A/1\.json: event type 'A'"),
        ("stray.json", GOOD, r"stray\.json: not expected here"),
        (".hidden", "", "no schemas; put one at"),
    ],
)
def test_a_fault_names_file_and_place(tmp_path: Path, name: str, text: str, fault: str) -> None:
    """Whatever is wrong with a file, the message says which and what."""
    with pytest.raises(ConfigProblem, match=fault):
        load_schemas(write(tmp_path, **{name: text}))


def test_a_missing_folder_names_the_setting(tmp_path: Path) -> None:
    """A wrong path is a setting to mend."""
    with pytest.raises(ConfigProblem, match=r"paths\.schemas"):
        load_schemas(tmp_path / "none")
    with pytest.raises(ConfigProblem, match=r"envelope\.json: cannot be read"):
        load_envelope(tmp_path)
