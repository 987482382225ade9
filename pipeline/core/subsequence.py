"""Sub-sequence numbers: which unit of a Kinesis record it is. The one home of this arithmetic.

A Kinesis record holds user records (an aggregate many, a plain one itself), and a user record holds units: mostly one,
but a batch of events as well. A unit's number is

    user record + (unit << 32)

so the low half is Kinesis' own sub-sequence number, which checkpoints and positions go by, and a user record that is
one unit has that number alone.
"""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

_HALF_BITS = 32
_HALF = (1 << _HALF_BITS) - 1
_UNIT_BITS = 31  # a unit's number is far smaller; user record and unit together stay within int64

Number = TypeVar("Number", int, npt.NDArray[np.int64])


def unit_numbers(user_record: int, units: int) -> range:
    """Return the numbers of a user record's units."""
    return range(user_record, user_record + (units << _HALF_BITS), 1 << _HALF_BITS)


def user_record(number: Number) -> Number:
    """Return Kinesis' own sub-sequence number of a unit's user record."""
    return number & _HALF


def stream_order(number: Number) -> Number:
    """Return what units of one Kinesis record are sorted by: user record, then unit."""
    return (number & _HALF) << _UNIT_BITS | number >> _HALF_BITS
