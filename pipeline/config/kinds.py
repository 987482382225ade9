"""What one setting may be: the annotated types of the tree, and where its folders lie when nobody says."""

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr

TENANT_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"  # safe inside an object key and a table key


def default_home() -> Path:
    """Say where the stack lives when nobody said otherwise."""
    return platformdirs.user_state_path("headrace").absolute()


def _number(value: object) -> object:
    """Refuse what pydantic would bend into a number: true is not 1."""
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  # pydantic collects ValueError only
    return value


def _switch(value: object) -> object:
    """Refuse what pydantic would bend into a switch: a number is none."""
    if isinstance(value, bool) or (isinstance(value, str) and value.lower() in {"true", "false"}):
        return value
    raise ValueError("must be true or false")


def listed(value: object) -> object:
    """Take `a,b` (environment) beside a list (file)."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def none_if_empty(value: object) -> object:
    """Read an empty variable as "not set"."""
    return None if value == "" else value


def checked_endpoint(value: str | None) -> str | None:
    """Refuse what is no plain http(s) address."""
    parts = urlsplit(value or "http://unset")
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.port == 0:
        raise ValueError("must be http://HOST:PORT or https://HOST:PORT, without a user name")
    return value


def checked_namespace(value: str) -> str:
    """Refuse what CloudWatch would drop without a word."""
    if value.startswith("AWS/"):
        raise ValueError("must not begin with AWS/, which CloudWatch keeps for itself")
    return value


def folder(value: object) -> Path:
    """Make a folder absolute; `~` is the user's own.

    Raises:
        ValueError: not a folder's name.
    """
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("must name a folder")
    try:
        return Path(value).expanduser().absolute()
    except RuntimeError as exc:  # ~nobody
        raise ValueError("must name a folder of a user that exists") from exc


def data_folder(name: str) -> Path:
    """Where the package data lies: inside an installed wheel, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent  # pipeline/
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parent / name


Whole = Annotated[int, BeforeValidator(_number)]
Switch = Annotated[bool, BeforeValidator(_switch)]
Seconds = Annotated[float, BeforeValidator(_number)]
Share = Annotated[float, BeforeValidator(_number)]
Text = Annotated[str | None, BeforeValidator(none_if_empty)]
Secret = Annotated[SecretStr | None, BeforeValidator(none_if_empty)]
Folder = Annotated[Path, BeforeValidator(folder)]
Tenant = Annotated[str, Field(pattern=TENANT_PATTERN)]
