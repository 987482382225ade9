"""What goes over the wire, and how each service words its refusals.

Sources: "Error handling" in the developer guides of DynamoDB, Kinesis and SQS; "Error responses" of S3.
"""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, urlsplit

_TARGETS = {"Kinesis_20131202": "kinesis", "DynamoDB_20120810": "dynamodb", "AmazonSQS": "sqs"}
_JSON = "application/x-amz-json-1.0"


@dataclass(frozen=True)
class Request:
    """One request of a client; `operation` is `<service>.<AWS' name>`."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @cached_property
    def operation(self) -> str:
        """Return who is asked for what: by the target of AWS' JSON protocols, else by S3's verb and path."""
        prefix, _, name = self.headers.get("x-amz-target", "").rpartition(".")
        return f"{_TARGETS[prefix]}.{name}" if name else f"s3.{self._of_s3()}"

    def _of_s3(self) -> str:
        url = urlsplit(self.path)
        if "/" not in url.path.strip("/"):
            listing = self.method == "GET" and "list-type" in parse_qs(url.query)
            return "ListObjectsV2" if listing else f"{self.method.title()}Bucket"
        return f"{self.method.title()}Object"

    @property
    def service(self) -> str:
        """Return the service that is asked."""
        return self.operation.partition(".")[0]

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a JSON protocol."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def with_arguments(self, **changes: Any) -> "Request":
        """Return the request with other arguments."""
        return replace(self, body=json.dumps({**self.arguments, **changes}).encode())


@dataclass(frozen=True)
class Answer:
    """One answer of a server."""

    status: int
    headers: dict[str, str]
    body: bytes


def json_answer(value: dict[str, Any], status: int = 200, **headers: str) -> Answer:
    """Return an answer of a JSON protocol."""
    return Answer(status, {"Content-Type": _JSON, **headers}, json.dumps(value).encode())


def json_error(code: str, status: int = 400, **more: Any) -> Answer:
    """Return an error of DynamoDB, Kinesis or SQS."""
    return json_answer({"__type": f"com.amazonaws#{code}", "message": "as planned", **more}, status)


def xml_error(code: str, status: int, *, head: bool = False) -> Answer:
    """Return an error of S3; one of a HEAD request has no body."""
    text = f"<Error><Code>{code}</Code><Message>as planned</Message><RequestId>0</RequestId></Error>"
    body = b"" if head else b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()
    return Answer(status, {"Content-Type": "application/xml"}, body)


_THROTTLES = {
    "kinesis": ("ProvisionedThroughputExceededException", "LimitExceededException"),
    "dynamodb": (
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
    ),
    "sqs": ("RequestThrottled", "ThrottlingException"),
    "s3": ("SlowDown",),
}
_BROKEN = {
    "kinesis": ("InternalFailure", "ServiceUnavailable"),
    "dynamodb": ("InternalServerError", "ServiceUnavailable"),
    "sqs": ("InternalFailure", "ServiceUnavailable"),
    "s3": ("InternalError", "ServiceUnavailable"),
}


def throttles(request: Request) -> list[Answer]:
    """Return how the service says "later"; S3 with a server's status."""
    words = _THROTTLES[request.service]
    if request.service == "s3":
        return [xml_error(word, 503, head=request.method == "HEAD") for word in words]
    return [json_error(word) for word in words]


def failures(request: Request) -> list[Answer]:
    """Return how the service says that it broke off: 500 and 503."""
    words = zip(_BROKEN[request.service], (500, 503), strict=True)
    if request.service == "s3":
        return [xml_error(word, status, head=request.method == "HEAD") for word, status in words]
    return [json_error(word, status) for word, status in words]
