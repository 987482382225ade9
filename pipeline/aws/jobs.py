"""Port `ReplayJobs` on DynamoDB: table `replay_jobs`."""

from collections.abc import Sequence
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws import tables
from pipeline.aws.dynamo import cancelled, put_all, query
from pipeline.aws.errors import condition_failed, translated
from pipeline.aws.items import Item, number, text
from pipeline.aws.replay_items import (
    JOBS,
    chunk_item,
    chunk_key,
    chunk_of,
    job_item,
    job_key,
    job_of,
    pointer_items,
    pointer_names,
    pointers_of,
)
from pipeline.core.errors import NotFound
from pipeline.core.index import Pointer
from pipeline.core.replay_job import ENDED, Chunk, Job, JobState

NOBODY_FROZE_IT = "attribute_not_exists(#name)"
NOT_DONE = "done = :no"
_CHUNKS = ("chunk#", "chunk#~")


class DynamoJobs:
    """The replay jobs of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.REPLAY_JOBS.name

    def freeze(self, job: Job, chunks: Sequence[tuple[Chunk, Sequence[Pointer]]]) -> None:
        """Store pointers, chunks, then the job; see the port."""
        if self._exists(job.id):
            return  # an earlier try stored all of it, and its chunks may be moving already
        for chunk, pointers in chunks:
            put_all(self._dynamodb, self._table, list(pointer_items(chunk, pointers)))
        put_all(self._dynamodb, self._table, [chunk_item(chunk) for chunk, _ in chunks])
        try:
            with translated(f"freeze replay job {job.id}"):
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item=job_item(job),
                    ConditionExpression=NOBODY_FROZE_IT,
                    ExpressionAttributeNames={"#name": "name"},
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise

    def _exists(self, job: str) -> bool:
        try:
            self.get(job)
        except NotFound:
            return False
        return True

    def get(self, job: str) -> Job:
        """Return a job; see the port."""
        return job_of(self._get(job_key(job), f"no replay job {job}: `headrace replay status` lists them"))

    def newest(self) -> list[Job]:
        """Return all jobs, newest first."""
        return sorted(
            map(job_of, query(self._dynamodb, self._table, JOBS)), key=lambda one: one.id, reverse=True
        )

    def chunks(self, job: str) -> list[Chunk]:
        """Return a job's chunks, by number."""
        return [chunk_of(item) for item in query(self._dynamodb, self._table, job, _CHUNKS)]

    def chunk(self, job: str, number: int) -> Chunk:
        """Return one chunk; see the port."""
        return chunk_of(self._get(chunk_key(job, number), f"no chunk {number} of replay job {job}"))

    def pointers(self, chunk: Chunk) -> list[Pointer]:
        """Return a chunk's pointers; see the port."""
        names = pointer_names(chunk.number)
        return pointers_of(chunk, list(query(self._dynamodb, self._table, chunk.job, names)))

    def move(
        self, job: str, before: Sequence[JobState], after: JobState, at_us: int, reason: str = ""
    ) -> bool:
        """Set a job's state by compare-and-set; see the port."""
        wanted = {f":before{place}": text(state) for place, state in enumerate(before)}
        change = "SET #state = :after, reason = :reason"
        values = {":after": text(after), ":reason": text(reason), **wanted}
        if after in ENDED:
            change += ", ended_us = :at"
            values[":at"] = number(at_us)
        else:  # it goes on
            change += " REMOVE ended_us"
        try:
            with translated(f"move replay job {job}"):
                self._dynamodb.update_item(
                    TableName=self._table,
                    Key=job_key(job),
                    UpdateExpression=change,
                    ConditionExpression=f"#state IN ({', '.join(wanted)})",
                    ExpressionAttributeNames={"#state": "state"},
                    ExpressionAttributeValues=values,
                )
        except ClientError as exc:
            if not condition_failed(exc):
                raise
            return False
        return True

    def note_sent(self, job: str, steps: int, messages: int) -> None:
        """Store how far sending is; see the port."""
        with translated(f"note replay job {job}"):
            self._dynamodb.update_item(
                TableName=self._table,
                Key=job_key(job),
                UpdateExpression="SET sent_steps = :steps, sent_messages = :messages",
                ExpressionAttributeValues={":steps": number(steps), ":messages": number(messages)},
            )

    def begin_chunk(self, chunk: Chunk) -> int:
        """Count that work on a chunk begins; see the port."""
        with translated(f"begin chunk {chunk.number} of replay job {chunk.job}"):
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=chunk_key(chunk.job, chunk.number),
                UpdateExpression="ADD attempts :one",
                ExpressionAttributeValues={":one": number(1)},
                ReturnValues="UPDATED_NEW",
            )
        return int(answer["Attributes"]["attempts"]["N"])

    def finish_chunk(self, chunk: Chunk) -> bool:
        """Mark a chunk as done and count it, in one transaction; see the port.

        Two processors finish chunk 7:

            processor A   NOT_DONE holds: done, done_chunks + 1
            processor B   NOT_DONE fails: nothing is counted twice
        """
        what = f"finish chunk {chunk.number} of replay job {chunk.job}"
        try:
            with translated(what):
                self._dynamodb.transact_write_items(TransactItems=self._finish(chunk))
        except ClientError as exc:
            cancelled(exc, what)
            return False
        return True

    def _finish(self, chunk: Chunk) -> list[dict[str, Any]]:
        return [
            {
                "Update": {
                    "TableName": self._table,
                    "Key": chunk_key(chunk.job, chunk.number),
                    "UpdateExpression": "SET done = :yes",
                    "ConditionExpression": NOT_DONE,
                    "ExpressionAttributeValues": {":yes": {"BOOL": True}, ":no": {"BOOL": False}},
                }
            },
            {
                "Update": {
                    "TableName": self._table,
                    "Key": job_key(chunk.job),
                    "UpdateExpression": "ADD done_chunks :one, done_events :events",
                    "ExpressionAttributeValues": {":one": number(1), ":events": number(chunk.events)},
                }
            },
        ]

    def _get(self, key: Item, missing: str) -> Item:
        with translated(f"read {self._table}"):
            answer: dict[str, Any] = self._dynamodb.get_item(
                TableName=self._table, Key=key, ConsistentRead=True
            )
        found: Item | None = answer.get("Item")
        if found is None:
            raise NotFound(missing)
        return found
