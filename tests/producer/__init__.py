"""The producer over fakes."""
