"""How programs of ours are started as processes."""

import subprocess
from pathlib import Path

import pytest

from pipeline.machine.modules import module_command


@pytest.mark.parametrize("name", ["pipeline", "consumers"])
def test_a_folder_of_the_user_takes_no_module_of_ours(tmp_path: Path, name: str) -> None:
    """Started where a folder has the name of a package of ours, it is ours that runs."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    ours = module_command("pipeline.cli.main", "--version")
    if name == "consumers":
        ours = module_command("consumers.reader")
    done = subprocess.run(
        ours, cwd=tmp_path, env={"HEADRACE_NO": "1"}, capture_output=True, text=True, check=False
    )
    assert "the wrong one" not in done.stderr
    assert "headrace" in done.stdout + done.stderr
