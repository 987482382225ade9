"""What both producers over HTTP are made of: an outbox with real chance and keys, and its credential's manners."""

import random
import uuid
from collections.abc import Callable

from pipeline.sending.fates import BatchFate
from pipeline.sending.http_batch import HttpOptions
from pipeline.sending.http_credential import Credential
from pipeline.sending.http_outbox import HttpOutbox


def outbox(
    options: HttpOptions, settled: Callable[[BatchFate, int], None], credential: Credential
) -> HttpOutbox:
    """Return an outbox whose keys no request had before."""
    return HttpOutbox(
        options,
        settled,
        random.random,
        lambda: str(uuid.uuid4()),
        renewable=credential.renewable,
        hide=credential.hide,
    )
