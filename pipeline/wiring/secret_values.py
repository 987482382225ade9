"""Settings that are secrets: given as they are, or as `secretsmanager:NAME-OR-ARN[#MEMBER]`, which is read where it is used.

The reference, not the secret, is what settings, child processes and `headrace config show` hold.
"""

from functools import cache

from pydantic import SecretStr

from pipeline.aws.client import Connection, make_client
from pipeline.aws.meter import Meter
from pipeline.aws.secret_values import read_secret
from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.wiring.stores import connection

_SCHEME = "secretsmanager:"


def secret_text(settings: Settings, key: str, value: SecretStr) -> str:
    """Return what a secret setting stands for. Secrets Manager is asked once in a process for each secret.

    Args:
        settings: where AWS is.
        key: of the setting, for messages.
        value: of the setting.

    Raises:
        ConfigProblem: there is no such secret, or we may not read it.
        Transient, OutcomeUnknown: Secrets Manager does not answer.
    """
    given = value.get_secret_value()
    if not given.startswith(_SCHEME):
        return given
    name, _, member = given.removeprefix(_SCHEME).partition("#")
    if not name:
        raise ConfigProblem(f"{key}: {_SCHEME} must be followed by a secret's name or ARN")
    try:
        return _read(connection(settings), name, member or None)
    except ConfigProblem as exc:
        raise ConfigProblem(f"{key}: {exc}") from exc


@cache
def _read(where: Connection, name: str, member: str | None) -> str:
    return read_secret(make_client("secretsmanager", where, Meter()), name, member)
