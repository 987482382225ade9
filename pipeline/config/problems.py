"""How a wrong setting is worded: key, value, where it came from, what is allowed, what to do.

Secrets never reach a message, and neither does the value of an unknown key that may hold one.
"""

import difflib
import re
from collections.abc import Iterable
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from pipeline.config.tree import SECTIONS

MASK = "********"
MAX_SHOWN = 80  # characters of a value in a message: enough to recognise it
_SECRET_NAME = re.compile(r"secret|password|passwd|token|credential|access_?key", re.IGNORECASE)
_KIND_WORD = {int: "a whole number", float: "a number", bool: "true or false"}

KNOWN_KEYS = {
    f"{section}.{key}": info
    for section, model in SECTIONS.items()
    for key, info in model.model_fields.items()
}


def env_name(key: str) -> str:
    """Name the environment variable of a key: `stream.shards` -> `HEADRACE_STREAM__SHARDS`."""
    return "HEADRACE_" + key.upper().replace(".", "__")


def is_secret(info: FieldInfo) -> bool:
    """True when a field's value must not be shown."""
    return SecretStr in (info.annotation, *get_args(info.annotation))


def shown(value: object, *, secret: bool = False) -> str:
    """Render a value for a message, cut to `MAX_SHOWN` characters, masked when it is a secret."""
    text = MASK if secret else re.sub(r"://[^/@\s]*@", f"://{MASK}@", repr(value))
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def allowed(info: FieldInfo) -> str:
    """Say what a field takes, from its own constraints: `a whole number from 1 to 64`."""
    kinds = [kind for kind in (get_args(info.annotation) or (info.annotation,)) if kind is not type(None)]
    if get_origin(info.annotation) is Literal:
        return "one of " + ", ".join(map(str, kinds))
    if get_origin(info.annotation) is tuple:
        return "a list of names in lower case, 1-63 of a-z 0-9 . _ -"
    low = next((f"from {m.ge}" for m in info.metadata if isinstance(m, Ge)), None)
    low = low or next((f"above {m.gt}" for m in info.metadata if isinstance(m, Gt)), "")
    high = next((f"to {m.le}" for m in info.metadata if isinstance(m, Le)), "")
    word = next((word for kind, word in _KIND_WORD.items() if kind in kinds), "text")
    pattern = next((m.pattern for m in info.metadata if getattr(m, "pattern", None)), None)
    return f"{word} matching {pattern}" if pattern else " ".join(part for part in (word, low, high) if part)


def _remedy(key: str, source: str) -> str:
    kind, _, name = source.partition(" ")
    if kind == "environment":
        return f"correct or unset {name}"
    if kind == "file":
        return f"correct it in {name}"
    return "correct the flag" if kind == "flag" else f"set {env_name(key)}, or {key} in headrace.toml"


def wrong_value(error: ErrorDetails, value: object, source: str) -> str:
    """Word one finding of pydantic about a known key."""
    key = ".".join(map(str, error["loc"][:2]))
    info = KNOWN_KEYS[key]
    within = (
        f" (item {error['loc'][2]})" if len(error["loc"]) > 2 and isinstance(error["loc"][2], int) else ""
    )
    reason = str(error["ctx"]["error"]) if error["type"] == "value_error" else f"must be {allowed(info)}"
    given = shown(error["input"] if within else value, secret=is_secret(info))
    return f"{key} = {given}{within} from {source}: {reason}; {_remedy(key, source)}"


def unknown_key(key: str, value: object, source: str) -> str:
    """Word a key that does not exist, with the nearest that does."""
    kind, _, name = source.partition(" ")
    near = nearest(key, KNOWN_KEYS)
    if kind == "environment":
        hint = f"; did you mean {env_name(near)}?" if near else ""
        return f"{name} = {_unknown_value(key, value)} from environment: no such setting{hint}; unset it"
    hint = f"; did you mean {near}?" if near else ""
    return f"{key} = {_unknown_value(key, value)} from {source}: no such setting{hint}; remove it"


def _unknown_value(key: str, value: object) -> str:
    return shown(value, secret=key.startswith("aws.") or bool(_SECRET_NAME.search(key)))


def nearest(key: str, known: Iterable[str]) -> str | None:
    """Find the known key somebody meant: by the whole key first, then by its last part alone."""
    names = list(known)
    match = difflib.get_close_matches(key.lower(), names, n=1, cutoff=0.75)
    if match:
        return match[0]
    leaves = {name.rpartition(".")[2]: name for name in reversed(names)}
    leaf = difflib.get_close_matches(key.lower().rpartition(".")[2], list(leaves), n=1, cutoff=0.75)
    return leaves[leaf[0]] if leaf else None
