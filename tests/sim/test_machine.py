"""The protocol under a Hypothesis state machine, and that the machine sees a missing guard and shrinks it."""

import os

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.sim.guards import GUARDS
from tests.sim.invariants import Invariant
from tests.sim.machine import PipelineMachine

_EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "40"))
_STEPS = 25
_SHORT = 60  # lines of history, the drain's own included


def _settings(examples: int, *, derandomize: bool) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=_STEPS,
        derandomize=derandomize,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
    )


def test_rows_are_equal_whatever_the_machine_does() -> None:
    """No order of rules breaks an invariant; MACHINE_EXAMPLES asks for more, and for other ones each time."""
    fixed = "MACHINE_EXAMPLES" not in os.environ
    run_state_machine_as_test(PipelineMachine, settings=_settings(_EXAMPLES, derandomize=fixed))


class WithoutOrdinal(PipelineMachine):
    """The machine without the condition that an ordinal is free."""

    guard = GUARDS["ordinal"]


def test_a_missing_guard_is_found_and_shrunk() -> None:
    """Without the ordinal's condition the machine finds a segment that is decided twice, in a few steps."""
    with pytest.raises(Exception, match=Invariant.DECIDED_ONCE):
        run_state_machine_as_test(WithoutOrdinal, settings=_settings(60, derandomize=True))
    assert len(WithoutOrdinal.steps) <= _SHORT
