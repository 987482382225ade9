"""The key that cursors and receipts are signed with: the setting, or one that a local stack makes for itself, once."""

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.machine.files import PRIVATE_FILE
from pipeline.wiring.secret_values import secret_text

_FILE = "signing.key"
_HEX_DIGITS = 64  # 256 bits
_LEAST_CHARACTERS = 32  # of the setting: 128 bits, if they are hex digits


def signing_key(settings: Settings) -> bytes:
    """Return 32 bytes: of `web.signing_key`, or, of a local stack, of the file in `paths.home`, made when it is missing.

    Raises:
        ConfigProblem: the setting is too short, or missing on AWS; the file cannot be made, or is none of ours.
    """
    given = settings.web.signing_key
    if given is not None:
        text = secret_text(settings, "web.signing_key", given)
        if len(text) < _LEAST_CHARACTERS:
            raise ConfigProblem(
                f"web.signing_key: shorter than {_LEAST_CHARACTERS} characters; make one with `openssl rand -hex 32`"
            )
        return hashlib.sha256(text.encode()).digest()
    if settings.aws.endpoint_url is None:
        raise ConfigProblem(
            "web.signing_key is not set: cursors and receipts are signed with it, and all processes of the API need the "
            "same one; make it with `openssl rand -hex 32`"
        )
    return _own(settings.paths.home / _FILE)


def _own(path: Path) -> bytes:
    """Return the machine's own key; of several processes that begin at once, all have the same."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _make(path)
        text = path.read_text().strip()
        return bytes.fromhex(text) if len(text) == _HEX_DIGITS else _refuse(path)
    except (OSError, ValueError) as exc:
        raise ConfigProblem(f"{path}: {exc}; set `web.signing_key`, or remove the file") from exc


def _make(path: Path) -> None:
    """Write a key whole and link it into place: nobody reads half of one."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(_HEX_DIGITS // 2))
        with suppress(FileExistsError):  # another process was first
            os.link(draft, path)
    finally:
        draft.unlink()


def _refuse(path: Path) -> bytes:
    raise ConfigProblem(f"{path}: is no signing key; set `web.signing_key`, or remove the file")
