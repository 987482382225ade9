"""How far a clock is off, by a second one that answered meanwhile: only what is certain counts.

    our clock   ........before...............now........
    theirs               |---- told ----|                  some moment of the call, cut to a whole second

So at `now` theirs shows `told` at least, and `told` + the time the call took + a second at most.
"""

_CUT_US = 1_000_000  # HTTP's Date has whole seconds (RFC 9110, 6.6.1)


def ahead_of(told_us: int, now_us: int, took_us: int) -> int:
    """Return by how much a clock is ahead of the other one at least; below zero: behind; 0: they may agree.

    Args:
        told_us: what the other clock showed at some moment of a call, in whole seconds.
        now_us: what this one shows after the call.
        took_us: how long the call took, by a clock that nobody sets.
    """
    behind_us = told_us - now_us
    if behind_us > 0:
        return -behind_us
    return max(0, now_us - took_us - told_us - _CUT_US)
