"""The reader as it is, but for one thing: the list of shards is long in coming, from the second look on.

`python -m tests.consumers.slow_shards`, with how long in SLOW_SECONDS.
"""

import os
import time

from consumers import reader
from consumers.process import run
from pipeline.core.segment import Lineage
from pipeline.flows.read import Shards

_READY = Shards.ready


def _ready(self: Shards) -> list[Lineage]:
    if self._started:
        time.sleep(float(os.environ["SLOW_SECONDS"]))  # as AWS does when it throttles
    return _READY(self)


def main() -> None:
    """Run the reader."""
    Shards.ready = _ready  # type: ignore[method-assign]
    reader._DISCOVER_SECONDS = 0.1
    run("reader", reader.main)


if __name__ == "__main__":
    main()
