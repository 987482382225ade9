"""What a user's program imports to send events."""

from pipeline.producer.producer import Producer, ProducerSettings

__all__ = ["Producer", "ProducerSettings"]
