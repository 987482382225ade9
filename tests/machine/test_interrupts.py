"""Signals are raised where they may be, remembered where they must be, and never forgotten."""

import signal

import pytest

from pipeline.machine.interrupts import Interrupts


def test_a_signal_raises_at_once() -> None:
    """Outside of any hold Ctrl-C raises KeyboardInterrupt, and afterwards the old handler is back."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), Interrupts().installed():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_held_signal_raises_after_the_hold() -> None:
    """A signal during a hold lets the body finish, then raises."""
    interrupts, done = Interrupts(), []
    with pytest.raises(KeyboardInterrupt), interrupts.installed(), interrupts.held():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        done.append(1)
    assert done == [1]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_swallowed_signal_raises_at_the_next_check() -> None:
    """Ctrl-C inside a finalizer, where Python drops the exception, is raised by the next check."""

    class Finalized:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    interrupts = Interrupts()
    with interrupts.installed():
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_an_ending_program_only_answers() -> None:
    """After `hold` a signal is told and counted, and nothing raises."""
    interrupts, told = Interrupts(), []
    interrupts.told = lambda: told.append(1)
    with interrupts.installed():
        interrupts.hold()
        signal.raise_signal(signal.SIGINT)
        interrupts.check()
    assert told == [1]
    assert interrupts.asked == 1
