"""headrace: exactly-once Parquet from Kinesis, with a ledger that proves nothing is missing."""

__version__ = "0.1.0"
