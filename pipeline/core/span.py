"""A span of event time, as a person names it by days or instants."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

from pipeline.core.days import DAY_US, EPOCH, day_of
from pipeline.core.errors import ConfigProblem
from pipeline.core.moment import moment

_MICROSECOND = timedelta(microseconds=1)
FIRST_US = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
END_US = (
    datetime.max.replace(tzinfo=UTC) - EPOCH
) // _MICROSECOND + 1  # after the last moment of the year 9999
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True)
class Span:
    """Event times from_us <= t < until_us, in microseconds since the epoch."""

    from_us: int = FIRST_US
    until_us: int = END_US

    @property
    def first_dt(self) -> str:
        """Return the first day that has a part in the span."""
        return day_of(self.from_us)

    @property
    def last_dt(self) -> str:
        """Return the last day that has a part in the span."""
        return day_of(self.until_us - 1)

    def covers(self, from_us: int, until_us: int) -> bool:
        """True when all of [from_us, until_us) lies inside."""
        return self.from_us <= from_us and until_us <= self.until_us

    def meets(self, from_us: int, until_us: int) -> bool:
        """True when some of [from_us, until_us) lies inside."""
        return from_us < self.until_us and self.from_us < until_us

    def within(self, other: "Span") -> "Span":
        """Return what both have in common; they must meet."""
        return Span(max(self.from_us, other.from_us), min(self.until_us, other.until_us))

    def __str__(self) -> str:
        first = f" from {instant_of(self.from_us)}" if self.from_us > FIRST_US else ""
        return first + (f" until {instant_of(self.until_us)}" if self.until_us < END_US else "")


def parse_span(first: str | None, last: str | None, fields: tuple[str, str] = ("from", "to")) -> Span:
    """Return the span between two texts, each a day (`2013-07-04`) or an RFC 3339 time; None is no bound.

    A day as `last` is part of the span; a time as `last` is not. `fields` are where the two were given, for messages.

    Raises:
        ConfigProblem: a text is neither, or the span is empty.
    """
    from_us = FIRST_US if first is None else _bounds(fields[0], first)[0]
    until_us = END_US if last is None else _bounds(fields[1], last)[1]
    if from_us >= until_us:
        raise ConfigProblem(
            f"nothing lies between {fields[0]} {first} and {fields[1]} {last}: {fields[0]} must be earlier"
        )
    return Span(from_us, until_us)


def parse_day(field: str, text: str) -> str:
    """Return the UTC day that a day or an RFC 3339 time names.

    Raises:
        ConfigProblem: it is neither.
    """
    return day_of(_bounds(field, text)[0])


def instant_of(microseconds: int) -> str:
    """Return a time as RFC 3339 writes it, with as many digits as it needs."""
    if microseconds >= END_US:
        return "9999-12-31T24:00:00Z"
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z" if rest else f"{_second(seconds)}Z"


@lru_cache(maxsize=64)  # of requests that arrive now
def _second(seconds: int) -> str:
    return (EPOCH + timedelta(seconds=seconds)).isoformat().removesuffix("+00:00")


def _bounds(field: str, text: str) -> tuple[int, int]:
    """Return where a day begins and ends; a time does both at once."""
    found = moment(text)
    if found is not None:
        at = (found - EPOCH) // _MICROSECOND
        return at, at
    written = _DAY.match(text)
    day = None if written is None else _date(written[0])
    if written is not None and day is None and written.end() in {len(text), text.upper().find("T")}:
        raise ConfigProblem(f"{field} {text!r}: there is no such day")
    if day is None or day.isoformat() != text:
        raise ConfigProblem(
            f"{field} {text!r}: give a day like 2013-07-04, or a time like 2013-07-04T10:30:00Z"
        )
    begin = (datetime(day.year, day.month, day.day, tzinfo=UTC) - EPOCH) // _MICROSECOND
    return begin, begin + DAY_US


def _date(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
