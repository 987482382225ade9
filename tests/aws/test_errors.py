"""Foreign errors become ours by one table; a broken answer is not read as success or refusal."""

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    ReadTimeoutError,
    UnauthorizedSSOTokenError,
)
from botocore.stub import Stubber

from pipeline.aws.errors import error_code, translated
from pipeline.aws.ledger import DynamoLedger
from pipeline.aws.manifest import DynamoManifest
from pipeline.aws.s3 import S3Objects
from pipeline.core.errors import (
    ConfigProblem,
    HeadraceError,
    NotFound,
    OutcomeUnknown,
    StoreUnusable,
    Transient,
)
from pipeline.core.manifest import DataFile
from pipeline.ports.ledger import PlanAnswer
from pipeline.ports.objects import Tail
from tests.aws.test_ledger import _segment

URL = "http://127.0.0.1:1"


def _client_error(code: str, status: int = 400) -> ClientError:
    body: Any = {
        "Error": {"Code": code, "Message": "said so"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return ClientError(body, "Operation")


TABLE: list[tuple[Exception, type[HeadraceError]]] = [
    *((_client_error(code), Transient) for code in (
        "ProvisionedThroughputExceededException", "ThrottlingException", "Throttling", "SlowDown", "RequestLimitExceeded",
        "TransactionConflictException", "TransactionInProgressException", "LimitExceededException", "RequestTimeout",
        "KMSThrottlingException", "RequestThrottled",
    )),
    (_client_error("ConditionalRequestConflict", 409), Transient),
    (_client_error("SlowDown", 503), Transient),  # S3's throttle has a server's status; its word counts
    (_client_error("InternalServerError", 500), OutcomeUnknown),
    (_client_error("InternalFailure", 500), OutcomeUnknown),
    (_client_error("InternalError", 500), OutcomeUnknown),
    (_client_error("ServiceUnavailable", 503), OutcomeUnknown),
    (_client_error("500", 500), OutcomeUnknown),  # HEAD has no body, so the code is the status
    (_client_error("502", 502), OutcomeUnknown),
    (_client_error("504", 504), OutcomeUnknown),
    (_client_error("SomethingNew", 500), OutcomeUnknown),
    (_client_error("ResourceNotFoundException"), StoreUnusable),  # a table; one object that is gone is another matter
    (_client_error("QueueDoesNotExist"), StoreUnusable),
    (_client_error("AWS.SimpleQueueService.NonExistentQueue"), StoreUnusable),
    (_client_error("NoSuchKey", 404), NotFound),
    (_client_error("NoSuchBucket", 404), StoreUnusable),
    (_client_error("404", 404), NotFound),
    (_client_error("AccessDeniedException"), StoreUnusable),
    (_client_error("AccessDenied", 403), StoreUnusable),
    (_client_error("403", 403), StoreUnusable),
    (_client_error("InvalidAccessKeyId", 403), ConfigProblem),
    (_client_error("ExpiredToken"), ConfigProblem),
    (_client_error("ExpiredTokenException"), ConfigProblem),
    (_client_error("UnrecognizedClientException"), ConfigProblem),
    (_client_error("SignatureDoesNotMatch", 403), ConfigProblem),
    (NoCredentialsError(), ConfigProblem),
    (PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), ConfigProblem),
    (UnauthorizedSSOTokenError(), ConfigProblem),
    (CredentialRetrievalError(provider="custom", error_msg="expired"), ConfigProblem),
    (ConnectTimeoutError(endpoint_url=URL), Transient),
    (EndpointConnectionError(endpoint_url=URL), Transient),
    (ReadTimeoutError(endpoint_url=URL), OutcomeUnknown),
    (ConnectionClosedError(endpoint_url=URL), OutcomeUnknown),
    (BotoCoreError(), OutcomeUnknown),
]  # fmt: skip


@pytest.mark.parametrize(("foreign", "ours"), TABLE, ids=lambda one: getattr(one, "__name__", str(one)[:60]))
def test_the_table(foreign: Exception, ours: type[HeadraceError]) -> None:
    """Will work later, unknown, missing, or a person's task: each error is one of ours, naming the call, with its cause."""
    with pytest.raises(HeadraceError) as caught, translated("write x"):
        raise foreign
    assert type(caught.value) is ours
    assert str(caught.value).startswith("write x: ")
    assert caught.value.__cause__ is foreign


def test_a_store_that_is_not_there_names_the_next_step() -> None:
    """Whoever reads the message knows who makes tables, buckets and queues; a stream may be another matter."""
    with pytest.raises(ConfigProblem, match="headrace up"), translated("read t"):
        raise _client_error("ResourceNotFoundException")
    with pytest.raises(NotFound), translated("read s", absent=NotFound):
        raise _client_error("ResourceNotFoundException")


@pytest.mark.parametrize(
    "code",
    [
        "ConditionalCheckFailedException",
        "TransactionCanceledException",
        "ValidationException",
        "PreconditionFailed",
    ],
)
def test_what_the_caller_decides_passes(code: str) -> None:
    """Refusals of a condition, and our own mistakes, are nobody else's to translate."""
    with pytest.raises(ClientError) as caught, translated("write x"):
        raise _client_error(code)
    assert error_code(caught.value) == code


def test_nothing_listens() -> None:
    """A real client at a closed port: the call can be repeated, nothing happened."""
    client = _client("dynamodb")
    with pytest.raises(Transient), translated("open"):
        client.list_tables()


def _client(service: Any) -> Any:
    quick = Config(
        connect_timeout=1, read_timeout=1, retries={"total_max_attempts": 1}, parameter_validation=False
    )
    return boto3.client(
        service,
        region_name="us-east-1",
        endpoint_url=URL,
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=quick,
    )


@pytest.fixture
def dynamodb() -> Iterator[tuple[Any, Stubber]]:
    """A DynamoDB client whose answers are written down beforehand."""
    client = _client("dynamodb")
    with Stubber(client) as stub:
        yield client, stub


def _cancelled(stub: Stubber, *codes: str) -> None:
    stub.add_client_error(
        "transact_write_items",
        "TransactionCanceledException",
        modeled_fields={"CancellationReasons": [{"Code": code} for code in codes]},
    )


@pytest.mark.parametrize(
    ("codes", "answer"),
    [
        (("ConditionalCheckFailed", "None", "None"), PlanAnswer.ORDINAL_TAKEN),
        (("None", "ConditionalCheckFailed", "ConditionalCheckFailed"), PlanAnswer.PREDECESSOR),
        (("None", "None", "ConditionalCheckFailed"), PlanAnswer.SEAL_MOVED),
        (("TransactionConflict", "None", "ConditionalCheckFailed"), PlanAnswer.SEAL_MOVED),
    ],
)
def test_why_a_plan_was_refused(
    dynamodb: tuple[Any, Stubber], codes: tuple[str, ...], answer: PlanAnswer
) -> None:
    """The first failed condition, in the order of the port, is the answer."""
    client, stub = dynamodb
    _cancelled(stub, *codes)
    assert DynamoLedger(client, "").plan(_segment(2)) is answer


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_plan_that_met_another_is_repeated(dynamodb: tuple[Any, Stubber], code: str) -> None:
    """Cancelled without a failed condition: nothing happened, and the same call may be made again."""
    client, stub = dynamodb
    _cancelled(stub, "None", code, "None")
    with pytest.raises(Transient, match=code):
        DynamoLedger(client, "").plan(_segment(2))


def _entry(number: int) -> DataFile:
    return DataFile("door#2024-03-10", f"open#{number}", "k", 1, 0, 1, 0, 0, ())


def test_items_that_were_not_taken(dynamodb: tuple[Any, Stubber]) -> None:
    """Only unprocessed items are written again; once none is taken the call is one to repeat, never a silent gap."""
    client, stub = dynamodb
    left = [{"PutRequest": {"Item": {"partition": {"S": "door#2024-03-10"}, "name": {"S": "open#1"}}}}]
    stub.add_response("batch_write_item", {})
    stub.add_response("batch_write_item", {"UnprocessedItems": {"data_files": left}})
    stub.add_response(
        "batch_write_item",
        {"UnprocessedItems": {"data_files": left}},
        {"RequestItems": {"data_files": left}},
    )
    with pytest.raises(Transient, match="none of 1 items"):
        DynamoManifest(client, "").put_all([_entry(1), _entry(2)])


@pytest.mark.parametrize("answers", [["412", "head"], ["PreconditionFailed", "head"]])
def test_an_object_that_is_there(answers: list[str]) -> None:
    """S3's refusal under either of its names is answered with the digest of what is there."""
    client = _client("s3")
    with Stubber(client) as stub:
        stub.add_client_error("put_object", answers[0], http_status_code=412)
        stub.add_response("head_object", {"Metadata": {"digest": "d1"}})
        assert S3Objects(client, "bucket").put_if_absent("k", b"x", "d2") == "d1"


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("ConditionalRequestConflict", 409, Transient),
        ("InternalError", 500, OutcomeUnknown),
        ("AccessDenied", 403, ConfigProblem),
    ],
)
def test_an_object_that_was_not_written(code: str, status: int, error: Callable[..., Exception]) -> None:
    """A conflict of two writers is tried again; an inner fault leaves it open; a missing right is told."""
    client = _client("s3")
    with Stubber(client) as stub:
        stub.add_client_error("put_object", code, http_status_code=status)
        with pytest.raises(error, match="put s3://bucket/k"):  # type: ignore[call-overload]
            S3Objects(client, "bucket").put_if_absent("k", b"x", "d")


def test_an_empty_objects_tail_is_no_error() -> None:
    """S3 answers 416 to the last bytes of an object that has none, which emulators do not."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s")
    with Stubber(client) as stub:
        stub.add_client_error("get_object", "InvalidRange", http_status_code=416)
        assert S3Objects(client, "bucket").tail("key", 9) == Tail(b"", 0)
