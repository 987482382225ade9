"""Comparison with a golden file. `HEADRACE_GOLDEN=write pytest ...` writes what is missing or differs."""

import json
import os
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent


def matches_golden(name: str, found: Any) -> None:
    """Assert that JSON-ready values are what the golden file holds."""
    path = GOLDEN / name
    if os.environ.get("HEADRACE_GOLDEN") == "write":
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    expected = json.loads(path.read_text(encoding="utf-8"))
    assert json.loads(json.dumps(found)) == expected, (
        f"{name}: a stored form changed; that needs a version bump and a changelog line"
    )
