"""The soak's producer: new events at a rate, for a time, through the product's own producer."""

import os
import sys
import time

from pipeline.startup import light

light()

import orjson  # noqa: E402 - after light()

from pipeline import wiring  # noqa: E402
from pipeline.config import load_settings  # noqa: E402
from tests.bench.data import events  # noqa: E402

_STEP = 500  # events made at a time


def main(rate: float, seconds: float) -> None:
    """Send until the time is over; print how many."""
    settings = load_settings(environ=dict(os.environ))
    producer = wiring.producer(settings, wiring.archive(settings))
    began, sent = time.monotonic(), 0
    while (now := time.monotonic() - began) < seconds:
        if sent > rate * now:
            time.sleep((sent - rate * now) / rate)
        for payload in events(_STEP, seed=sent):
            event = orjson.loads(payload)
            producer.put(event["tenant_id"], event["entity_id"], payload)
        sent += _STEP
    producer.close()
    print(sent)


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))
