"""How events are batched, sent in order, receipted and spilled; `pipeline.producer` is what users see of it."""

from pipeline.sending.batches import ProducerSettings
from pipeline.sending.producer import Producer

__all__ = ["Producer", "ProducerSettings"]
