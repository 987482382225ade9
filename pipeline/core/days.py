"""Days: every partition is a UTC day, written YYYY-MM-DD."""

from datetime import UTC, datetime, timedelta

DAY_US = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def day_of(microseconds: int) -> str:
    """Return the UTC day of a time in microseconds since the epoch."""
    return (EPOCH + timedelta(microseconds=microseconds)).date().isoformat()
