"""Foreign errors, translated in one table.

Three kinds of failure: will work later, will never work, unknown whether it happened.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)

from pipeline.core.errors import (
    ConfigProblem,
    HeadraceError,
    NotFound,
    OutcomeUnknown,
    StoreUnusable,
    Transient,
)

_LATER = frozenset(
    {
        "ConditionalRequestConflict",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",  # S3: the body did not come in time, nothing was stored
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionConflictException",
        "TransactionInProgressException",
        "KMSThrottlingException",
    }
)
_UNKNOWN = frozenset({"InternalServerError", "InternalFailure", "InternalError", "ServiceUnavailable"})
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})  # one object
_ABSENT = frozenset(  # the store itself: nobody may take it for the loss of what it holds
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "NoSuchBucket",
        "QueueDoesNotExist",
        "ResourceNotFoundException",
    }
)
# To our role.
_CLOSED = frozenset({"403", "AccessDenied", "AccessDeniedException", "KMSAccessDeniedException"})
_SETTINGS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_SERVER_FAULT = 500  # and above: the service broke off somewhere, before or after it did its work


_SPENT = "headrace_spent"
_UNUSABLE = (NoRegionError, ParamValidationError, ProfileNotFound)


def is_for_later(code: str) -> bool:
    """True for the word of an error that goes by itself, whoever is blamed for it."""
    return code in _LATER


def error_code(exc: ClientError) -> str:
    """Return the service's own word for the error."""
    return str(exc.response.get("Error", {}).get("Code", ""))


def condition_failed(exc: ClientError) -> bool:
    """True when DynamoDB refused a write for its condition: an answer, and no failure."""
    return error_code(exc) == "ConditionalCheckFailedException"


def _status(exc: ClientError) -> int:
    return int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _of_service(exc: ClientError, what: str, absent: type[HeadraceError]) -> HeadraceError | None:
    """Return our word for a service's error, or None where the caller knows better."""
    code = error_code(exc)
    message = f"{what}: {code}: {exc.response.get('Error', {}).get('Message', '')}"
    if code in _LATER:
        return Transient(message)
    if code in _UNKNOWN or _status(exc) >= _SERVER_FAULT:
        return OutcomeUnknown(message)
    if code in _MISSING:
        return NotFound(message)
    if code in _ABSENT:
        return absent(
            f"{message}; `headrace up` makes it, or Terraform does: see `headrace config show` for its name"
        )
    if code in _CLOSED or code in _SETTINGS:
        kind = StoreUnusable if code in _CLOSED else ConfigProblem
        return kind(f"{message}; check the AWS credentials and the policy of this role")
    return None


@contextmanager
def translated(what: str, absent: type[HeadraceError] = StoreUnusable) -> Iterator[None]:
    """Turn boto3's errors into ours.

    Args:
        what: the call and the thing, for the reader of the message.
        absent: what it is when there is no such table, bucket, queue or stream.

    Raises:
        Transient, OutcomeUnknown, NotFound, StoreUnusable, ConfigProblem: as the table says; other codes pass as they are.
    """
    try:
        yield
    except ClientError as exc:
        ours = _of_service(exc, what, absent)
        if ours is None:
            raise
        raise _spent_as(exc, ours) from exc
    except _UNUSABLE as exc:
        raise ConfigProblem(f"{what}: {exc}; see `headrace config show`") from exc
    except (NoCredentialsError, PartialCredentialsError) as exc:
        raise ConfigProblem(
            f"{what}: no AWS credentials found; set AWS_PROFILE or aws.access_key_id, "
            "or start the local stack with `headrace up`"
        ) from exc
    except (CredentialRetrievalError, SSOError) as exc:
        raise ConfigProblem(f"{what}: {exc}; sign in again") from exc
    except (ConnectTimeoutError, EndpointConnectionError) as exc:
        raise _spent_as(exc, Transient(f"{what}: {exc}")) from exc
    except (HTTPClientError, BotoCoreError) as exc:
        raise _spent_as(exc, OutcomeUnknown(f"{what}: {exc}")) from exc


def may_be_repeated(exc: BotoCoreError | ClientError) -> bool:
    """True for what `translated` turns into Transient or OutcomeUnknown."""
    try:
        with translated("request"):
            raise exc
    except (Transient, OutcomeUnknown):
        return True
    except (HeadraceError, ClientError):
        return False


def mark_spent(exc: BotoCoreError | ClientError) -> None:
    """Note on a failure that its request was tried as often, or as long, as it may be."""
    _notes(exc)[_SPENT] = True


def _spent_as(exc: BotoCoreError | ClientError, ours: HeadraceError) -> HeadraceError:
    if isinstance(ours, Transient | OutcomeUnknown):
        ours.spent = _SPENT in _notes(exc)
    return ours


def _notes(exc: BotoCoreError | ClientError) -> dict[str, Any]:
    """Return where botocore carries what it knows of a failure: an answer outlives the error made of it."""
    found: Any = (
        exc.response.setdefault("ResponseMetadata", {})  # type: ignore[typeddict-item]
        if isinstance(exc, ClientError)
        else exc.kwargs
    )
    notes: dict[str, Any] = found
    return notes
