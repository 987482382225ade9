"""The month of a quota: a calendar month of UTC."""

from datetime import UTC, datetime
from functools import lru_cache

from pipeline.core.bucket import MICROSECONDS


def month_of(now_us: int) -> str:
    """Return the month of a moment, as `2026-11`: months compare as texts."""
    return datetime.fromtimestamp(now_us // MICROSECONDS, UTC).strftime("%Y-%m")


@lru_cache(16)
def month_span(month: str) -> tuple[int, int]:
    """Return the first moment after a month, in microseconds, and how many seconds the month has."""
    ends_us = month_ends_us(month)
    return ends_us, (ends_us - month_begins_us(month)) // MICROSECONDS


def month_begins_us(month: str) -> int:
    """Return the first moment of a month."""
    year, number = map(int, month.split("-"))
    return int(datetime(year, number, 1, tzinfo=UTC).timestamp()) * MICROSECONDS


@lru_cache(16)
def month_ends_us(month: str) -> int:
    """Return the first moment after a month."""
    year, number = map(int, month.split("-"))
    return month_begins_us(f"{year + number // 12:04d}-{number % 12 + 1:02d}")
