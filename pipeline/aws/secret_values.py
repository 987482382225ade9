"""Secrets that AWS Secrets Manager keeps: read at the start of a process, never written, never in a message."""

from typing import Any

import msgspec
from botocore.exceptions import ClientError

from pipeline.aws.errors import error_code, translated
from pipeline.core.errors import ConfigProblem

_ABSENT = frozenset(
    {"ResourceNotFoundException", "InvalidRequestException"}
)  # the latter: marked for deletion


def read_secret(client: Any, name: str, member: str | None) -> str:
    """Return the current version of a secret.

    Args:
        client: boto3's, of `secretsmanager`.
        name: its name or ARN.
        member: of a secret that is a JSON object, the one that is meant; None: the whole text.

    Raises:
        ConfigProblem: there is none, we may not read it, or it has no such text.
        Transient, OutcomeUnknown: the service does not answer.
    """
    with translated(f"secret {name}"):
        try:
            answer = client.get_secret_value(SecretId=name)
        except ClientError as exc:
            if error_code(exc) in _ABSENT:
                region = client.meta.region_name
                raise ConfigProblem(
                    f"there is no secret {name!r} in Secrets Manager of {region}; make it, or mend the name"
                ) from None
            raise
    text = answer.get("SecretString")
    if not text:
        raise ConfigProblem(f"secret {name!r} holds bytes or nothing; store it as text")
    return str(text) if member is None else _member(str(text), name, member)


def _member(text: str, name: str, member: str) -> str:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any]).get(member)
    except (msgspec.DecodeError, msgspec.ValidationError):
        # Not "from" the decoder's error: that one quotes what it could not read.
        raise ConfigProblem(
            f"secret {name!r} is no JSON object, so it has no member {member!r}; leave out what follows #"
        ) from None
    if not isinstance(found, str) or not found:
        raise ConfigProblem(
            f"secret {name!r} has no text under {member!r}; see what follows # in the setting"
        )
    return found
