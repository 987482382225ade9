"""What the soak calls flat: noise and spikes pass, leaks do not."""

import random

import pytest

from tests.soak.verdict import Sample, trends


def _samples(
    leak_mb: float = 0, leak_files: float = 0, *, process: str = "loader", restart: bool = False
) -> list[Sample]:
    """Ten minutes, every five seconds; 200 MB that breathe by 5 %, with a spike every minute."""
    chance, found = random.Random(1), []
    for second in range(0, 600, 5):
        memory = 200 + chance.uniform(-5, 5) + leak_mb * second / 60 + (80 if second % 60 == 0 else 0)
        files = 20 + chance.randrange(3) + int(leak_files * second / 60)
        found.append(Sample(second, process, 1 + (restart and second > 300), memory, files, 9))
    return found


def _problems(samples: list[Sample]) -> list[tuple[str, str]]:
    return [(one.measure, one.problem) for one in trends(samples, 60) if one.problem]


def test_noise_and_spikes_are_flat() -> None:
    """A heap that breathes is no leak, nor is one below a percent a minute by its noise."""
    assert _problems(_samples()) == []


@pytest.mark.parametrize("leak", [2.5, 20])
def test_a_leak_of_memory_is_seen(leak: float) -> None:
    """A little more than one percent a minute is enough."""
    [(measure, problem)] = _problems(_samples(leak_mb=leak))
    assert measure == "memory_mb"
    assert "a minute" in problem


def test_a_leak_of_descriptors_is_seen() -> None:
    """One descriptor a minute is nine too many after the warm-up."""
    assert [measure for measure, _ in _problems(_samples(leak_files=1))] == ["descriptors"]


def test_a_restart_hides_nothing() -> None:
    """A process that began anew is not flat."""
    assert {problem for _, problem in _problems(_samples(restart=True))} == {"was started again"}


def test_the_emulator_may_grow() -> None:
    """It keeps everything in memory."""
    assert _problems(_samples(leak_mb=50, process="emulator")) == []


def test_what_grew_before_the_warm_up_ended_is_not_told() -> None:
    """A window that fills is no leak."""
    growing = [one._replace(memory_mb=one.memory_mb / 4) if one.seconds < 60 else one for one in _samples()]
    assert _problems(growing) == []
