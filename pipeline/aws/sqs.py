"""Port `MessageQueue` on SQS: a standard queue and its dead-letter queue."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from pipeline.aws.errors import is_for_later, translated
from pipeline.core.errors import Corrupt, StoreUnusable, Transient
from pipeline.ports.queue import Received

QUEUE = "replay queue"  # to operators: the name that all deployments share
_BATCH = 10  # SQS limit of one call
_SENDERS = 8
_RETENTION_SECONDS = 14 * 86_400  # the longest that SQS offers
_BURIED_CHARACTERS = 60_000  # of a body: with its reason it must fit into one message again
_MAX_RECEIPTS = 1_000  # SQS limit, before it moves a message by itself
_IN_HAND = "ApproximateNumberOfMessagesNotVisible"
_COUNTS = (
    "ApproximateNumberOfMessages",
    _IN_HAND,
    "ApproximateNumberOfMessagesDelayed",
)


class SqsQueue:
    """A queue and its dead-letter queue, by name."""

    def __init__(self, client: Any, name: str, dead_name: str, visibility_seconds: int) -> None:
        self._sqs, self._name, self._dead_name = client, name, dead_name
        self._visibility_seconds = visibility_seconds

    @cached_property
    def _url(self) -> str:
        return self._find(self._name)

    @cached_property
    def _dead_url(self) -> str:
        return self._find(self._dead_name)

    def _find(self, name: str) -> str:
        with translated(f"queue {name}"):
            return str(self._sqs.get_queue_url(QueueName=name)["QueueUrl"])

    def ask(self) -> None:
        """Ask for the queue's address anew; see the port. The right `sqs:GetQueueUrl` is what sending needs, too."""
        try:
            self._find(self._name)
        except StoreUnusable as exc:
            raise StoreUnusable(str(exc), (QUEUE,)) from exc

    def send(self, bodies: Sequence[str]) -> None:
        """Put messages, ten a call and several calls at once; see the port."""
        url = self._url
        batches = [bodies[start : start + _BATCH] for start in range(0, len(bodies), _BATCH)]
        if len(batches) == 1:
            self._send_batch(url, batches[0])
        elif batches:
            with ThreadPoolExecutor(min(_SENDERS, len(batches)), thread_name_prefix="send") as pool:
                for _ in pool.map(lambda batch: self._send_batch(url, batch), batches):
                    pass

    def _send_batch(self, url: str, bodies: Sequence[str]) -> None:
        entries = [{"Id": str(place), "MessageBody": body} for place, body in enumerate(bodies)]
        while entries:
            with translated(f"send to {self._name}"):
                answer = self._sqs.send_message_batch(QueueUrl=url, Entries=entries)
            failed = {one["Id"] for one in answer.get("Failed", [])}
            left = [entry for entry in entries if entry["Id"] in failed]
            _refuse_refused(f"send to {self._name}", answer.get("Failed", []))
            if len(left) == len(entries):
                raise Transient(
                    f"send to {self._name}: {answer['Failed'][0].get('Message', 'none was taken')}"
                )
            entries = left  # only the rest again, as long as it shrinks

    def receive(self, wait_seconds: int) -> list[Received]:
        """Return up to ten messages; see the port."""
        with translated(f"receive from {self._name}"):
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=_BATCH,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=self._visibility_seconds,
                AttributeNames=["ApproximateReceiveCount"],
            )
        return [
            Received(
                one["Body"],
                one["ReceiptHandle"],
                int(one.get("Attributes", {}).get("ApproximateReceiveCount", 1)),
            )
            for one in answer.get("Messages", [])
        ]

    def delete(self, receipts: Sequence[str]) -> None:
        """Remove received messages; see the port."""
        entries = [{"Id": str(place), "ReceiptHandle": one} for place, one in enumerate(receipts)]
        if entries:
            with translated(f"delete messages of {self._name}"):
                answer = self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
            self._refuse_faults(answer, "delete messages of")

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Change how long received messages stay hidden; see the port."""
        entries = [
            {"Id": str(place), "ReceiptHandle": one, "VisibilityTimeout": seconds}
            for place, one in enumerate(receipts)
        ]
        if entries:
            with translated(f"hide messages of {self._name}"):
                answer = self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)
            self._refuse_faults(answer, "hide messages of")

    def _refuse_faults(self, answer: dict[str, Any], what: str) -> None:
        """Raise Transient for the queue's own faults; a receipt that has run out is no fault of anybody's."""
        for one in answer.get("Failed", []):
            if not one.get("SenderFault", False):
                raise Transient(f"{what} {self._name}: {one.get('Code')}: {one.get('Message', '')}")

    def bury(self, messages: Sequence[tuple[str, str]]) -> None:
        """Put messages with their reasons into the dead-letter queue; see the port. Long bodies are cut."""
        for body, reason in messages:
            with translated(f"send to {self._dead_name}"):
                self._sqs.send_message(
                    QueueUrl=self._dead_url,
                    MessageBody=body[:_BURIED_CHARACTERS],
                    MessageAttributes={"reason": {"DataType": "String", "StringValue": reason}},
                )

    def depth(self) -> int:
        """Return about how many messages there are."""
        return self._count(_COUNTS)

    def in_hand(self) -> int:
        """Return about how many messages are in somebody's hand."""
        return self._count((_IN_HAND,))

    def _count(self, names: Sequence[str]) -> int:
        with translated(f"depth of {self._name}"):
            answer = self._sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=list(names))
        return sum(int(answer["Attributes"].get(name, 0)) for name in names)


def _refuse_refused(what: str, failed: Sequence[dict[str, Any]]) -> None:
    """Raise Corrupt for a message that the queue will never take, whoever sends it again."""
    for one in failed:
        if one.get("SenderFault", False) and not is_for_later(str(one.get("Code", ""))):
            raise Corrupt(f"{what}: a message is refused: {one.get('Code')}: {one.get('Message', '')}")


def create_queues(
    client: Any, name: str, dead_name: str, *, visibility_seconds: int, max_attempts: int
) -> None:
    """Create both queues where they are missing, and set what they keep and when SQS itself gives a message up."""
    with translated(f"create queue {dead_name}"):
        dead = client.create_queue(QueueName=dead_name)["QueueUrl"]
        keep = {"MessageRetentionPeriod": str(_RETENTION_SECONDS)}
        client.set_queue_attributes(QueueUrl=dead, Attributes=keep)
        found = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])
    policy = {
        "deadLetterTargetArn": found["Attributes"]["QueueArn"],
        # Each of the other nine messages in a hand may end its processes before this one is looked at.
        "maxReceiveCount": min(_BATCH * (max_attempts + 1), _MAX_RECEIPTS),
    }
    with translated(f"create queue {name}"):
        url = client.create_queue(QueueName=name)["QueueUrl"]
        client.set_queue_attributes(
            QueueUrl=url,
            Attributes={
                **keep,
                "VisibilityTimeout": str(visibility_seconds),
                "RedrivePolicy": json.dumps(policy),
            },
        )
