"""Days: every partition is a UTC day, written YYYY-MM-DD."""

from datetime import UTC, datetime, timedelta

SECOND_US, HOUR_US, DAY_US = 1_000_000, 3_600_000_000, 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(microseconds: int) -> str:
    """Return the UTC day of a time in microseconds since the epoch."""
    return (EPOCH + timedelta(microseconds=microseconds)).date().isoformat()


def second_of(microseconds: int) -> str:
    """Return a time in microseconds since the epoch as a person reads it, to the second, in UTC."""
    when = EPOCH + timedelta(microseconds=microseconds)
    return f"{when.replace(microsecond=0, tzinfo=None).isoformat()}Z"
