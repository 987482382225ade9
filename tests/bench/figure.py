"""One measured value."""

from typing import NamedTuple


class Figure(NamedTuple):
    """One measured value. `hold` is the number it is held to, in words; "" for a mere figure."""

    name: str
    value: float
    unit: str
    hold: str = ""
