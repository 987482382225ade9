"""The world a behaviour suite runs in."""

from collections.abc import Iterator

import pytest

from tests.aws.backends import WORLDS, World, world


@pytest.fixture(scope="module", params=WORLDS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One of the worlds, for a module's tests."""
    with world(request.param, tmp_path_factory.mktemp("world") / "home") as found:
        yield found
