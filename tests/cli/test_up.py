"""What `headrace up` says once its stack runs."""

from pathlib import Path

import pytest

from pipeline.cli.up import say_where
from pipeline.laptop.home import Home
from pipeline.laptop.stack import Stack


@pytest.mark.parametrize("has_api", [True, False])
def test_an_api_that_is_not_up_yet_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], has_api: bool
) -> None:
    """Where it was slow to start, the next step is said; of an API that nobody wanted nothing is."""
    stack = Stack(
        endpoint_url="http://here", port=1, phase="running", started_at=0.0, owner=None, has_api=has_api
    )
    say_where(Home(tmp_path), stack)
    assert ("`headrace status` says its URL" in capsys.readouterr().err) == has_api
