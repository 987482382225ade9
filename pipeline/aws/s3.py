"""Port `Objects` on S3: objects written once with `If-None-Match: *`."""

from collections.abc import Iterator
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws.errors import error_code, translated
from pipeline.core.errors import ConfigProblem
from pipeline.ports.objects import ObjectInfo, Tail

_DIGEST = "digest"  # metadata key: x-amz-meta-digest
_NO_RANGE = ("InvalidRange", "416")  # what S3 answers where an object is empty
_EXISTS = ("PreconditionFailed", "412")


class S3Objects:
    """One bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._s3, self._bucket = client, bucket

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        """Write `key` unless it exists; see the port."""
        try:
            with translated(f"put s3://{self._bucket}/{key}"):
                self._s3.put_object(
                    Bucket=self._bucket,
                    Key=key,
                    Body=bytes(body),
                    IfNoneMatch="*",
                    Metadata={_DIGEST: digest},
                )
        except ClientError as exc:
            if error_code(exc) not in _EXISTS:
                raise
        else:
            return None
        with translated(f"head s3://{self._bucket}/{key}"):
            head = self._s3.head_object(Bucket=self._bucket, Key=key)
        return str(head["Metadata"].get(_DIGEST, ""))

    def get(self, key: str) -> bytes:
        """Return an object's bytes; see the port."""
        with translated(f"get s3://{self._bucket}/{key}"):
            return bytes(self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read())

    def tail(self, key: str, length: int) -> Tail:
        """Return an object's last bytes; see the port."""
        try:
            with translated(f"get s3://{self._bucket}/{key}"):
                answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=-{length}")
                body = bytes(answer["Body"].read())
        except ClientError as exc:
            if error_code(exc) not in _NO_RANGE:
                raise
            return Tail(b"", 0)
        _, _, size = answer.get("ContentRange", "").rpartition("/")  # `bytes 5-9/10`
        return Tail(body, int(size) if size else len(body))

    def part(self, key: str, start: int, length: int) -> bytes:
        """Return bytes of an object; see the port."""
        with translated(f"get s3://{self._bucket}/{key}"):
            wanted = f"bytes={start}-{start + length - 1}"
            return bytes(self._s3.get_object(Bucket=self._bucket, Key=key, Range=wanted)["Body"].read())

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield every object under a prefix; see the port."""
        with translated(f"list s3://{self._bucket}/{prefix}"):
            for page in self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix
            ):
                for found in page.get("Contents", ()):
                    yield ObjectInfo(found["Key"], found["Size"], found["ETag"].strip('"'))


def create_bucket(client: Any, bucket: str, region: str) -> None:
    """Create the bucket if it is missing."""
    place: dict[str, Any] = {}
    if region != "us-east-1":  # S3's default, which must not be named
        place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    try:
        with translated(f"create bucket {bucket}"):
            client.create_bucket(Bucket=bucket, **place)
    except ClientError as exc:
        if error_code(exc) == "BucketAlreadyExists":
            raise ConfigProblem(
                f"bucket {bucket} belongs to another account; set storage.bucket to a name of your own"
            ) from exc
        if error_code(exc) != "BucketAlreadyOwnedByYou":
            raise
