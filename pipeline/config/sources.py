"""Where settings come from, and how they are merged.

Priority, highest first: flags, environment `HEADRACE_<SECTION>__<KEY>`, the TOML file (`HEADRACE_CONFIG`, or
`headrace.toml` in the home of the stack), defaults. `load_settings` reads all of them, then reports everything that is
wrong in one ConfigProblem, one line per problem.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr, ValidationError

from pipeline.config.kinds import default_home, folder
from pipeline.config.problems import KNOWN_KEYS, MASK, allowed, env_name, unknown_key, wrong_value
from pipeline.config.tree import SECTIONS, Settings
from pipeline.core.errors import ConfigProblem

PREFIX = "HEADRACE_"
CONFIG_VARIABLE = "HEADRACE_CONFIG"
HOME_VARIABLE = "HEADRACE_HOME"
FILE_NAME = "headrace.toml"

Overrides = Mapping[str, Mapping[str, Any]]


class Given(NamedTuple):
    """One value as it was given, before any check."""

    key: str
    value: Any
    source: str


class SettingRow(NamedTuple):
    """One line of `headrace config show`: `value` is fit for JSON, secrets hidden."""

    key: str
    value: Any
    source: str


class Reference(NamedTuple):
    """One line of the reference page."""

    key: str
    variable: str
    allowed: str
    default: Any
    description: str


def load_settings(overrides: Overrides | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings of this process.

    Args:
        overrides: section -> key -> value, from flags; a value of None means "flag not given".
        environ: environment to read; names outside `HEADRACE_` are ignored.

    Raises:
        ConfigProblem: one line per problem, all of them.
    """
    problems: list[str] = []
    flags = list(_from_flags(overrides or {}))
    variables = list(_from_environment(environ, problems))
    home = _home(flags, variables)
    merged: dict[str, Given] = {}
    for given in (*_from_file(environ, home, problems), *variables, *flags):
        if given.key in KNOWN_KEYS:
            merged[given.key] = given
        else:
            problems.append(unknown_key(*given))
    settings = _validated(merged, problems)
    if problems or settings is None:
        raise ConfigProblem("\n".join(problems))
    settings._sources.update({given.key: given.source for given in merged.values()})  # noqa: SLF001  # same package
    return settings


def _validated(merged: Mapping[str, Given], problems: list[str]) -> Settings | None:
    tree: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for key, given in merged.items():
        section, _, name = key.partition(".")
        tree[section][name] = given.value
    try:
        return Settings.model_validate(tree)
    except ValidationError as exc:
        for error in exc.errors(include_url=False):
            key = ".".join(map(str, error["loc"][:2]))
            given = merged.get(key, Given(key, error["input"], "default"))
            problems.append(wrong_value(error, given.value, given.source))
        return None


def _from_flags(overrides: Overrides) -> Iterator[Given]:
    for section, values in overrides.items():
        for name, value in values.items():
            if value is not None:
                yield Given(f"{section}.{name}", value, "flag")


def _from_environment(environ: Mapping[str, str], problems: list[str]) -> Iterator[Given]:
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE:
            continue
        key = (
            "paths.home" if name == HOME_VARIABLE else name.removeprefix(PREFIX).replace("__", ".", 1).lower()
        )
        if name not in {HOME_VARIABLE, env_name(key)}:
            problems.append(unknown_key(key, environ[name], f"environment {name}"))
        else:
            yield Given(key, environ[name], f"environment {name}")
    home, other = environ.get(HOME_VARIABLE), environ.get(env_name("paths.home"))
    if home is not None and other is not None and home != other:
        problems.append(
            f"{HOME_VARIABLE} = {home!r} and {env_name('paths.home')} = {other!r} differ: unset one of them"
        )


def _home(flags: list[Given], variables: list[Given]) -> Path:
    """Find the home before anything is checked: the file may lie in it."""
    named = [given.value for given in (*variables, *flags) if given.key == "paths.home"]
    try:
        return folder(named[-1]) if named else default_home()
    except ValueError:  # reported with all other problems when the tree is checked
        return default_home()


def _from_file(environ: Mapping[str, str], home: Path, problems: list[str]) -> Iterator[Given]:
    named = environ.get(CONFIG_VARIABLE)
    path = Path(named).expanduser().absolute() if named else home / FILE_NAME
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            problems.append(
                f"{CONFIG_VARIABLE} = {named!r}: no such file; correct or unset {CONFIG_VARIABLE}"
            )
        return
    except (OSError, UnicodeDecodeError) as exc:
        problems.append(f"{path}: cannot be read ({exc}); correct it or point {CONFIG_VARIABLE} elsewhere")
        return
    except tomllib.TOMLDecodeError as exc:
        problems.append(f"{path}: not TOML ({exc}); correct that line")
        return
    yield from _flattened(content, path, problems)


def _flattened(content: Mapping[str, Any], path: Path, problems: list[str]) -> Iterator[Given]:
    source = f"file {path}"
    for section, values in content.items():
        if not isinstance(values, Mapping):
            problems.append(unknown_key(section, values, source))
            continue
        if not values and section not in SECTIONS:
            problems.append(unknown_key(section, values, source))
        for name, value in values.items():
            if f"{section}.{name}" == "paths.home":
                problems.append(
                    f"paths.home from {source}: the home cannot be set in a file; use {HOME_VARIABLE} or --home"
                )
            else:
                yield Given(f"{section}.{name}", value, source)


def describe(settings: Settings) -> list[SettingRow]:
    """List every setting with its value and where it came from; secrets hidden."""
    rows = []
    for key in KNOWN_KEYS:
        section, _, name = key.partition(".")
        value = getattr(getattr(settings, section), name)
        rows.append(SettingRow(key, _plain(value), settings.source(key)))
    return rows


def _plain(value: object) -> Any:
    if isinstance(value, SecretStr):
        return MASK
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value


def reference() -> list[Reference]:
    """List every setting for the reference page: key, variable, what is allowed, default, meaning.

    Defaults that depend on this machine (paths) are given as None.
    """
    return [
        Reference(
            key,
            env_name(key),
            allowed(info),
            _plain(info.default) if info.default_factory is None else None,
            info.description or "",
        )
        for key, info in KNOWN_KEYS.items()
    ]


def as_environment(settings: Settings, *, secrets: bool = True) -> dict[str, str]:
    """Give what a child process needs to load the same settings: every value that is not a default.

    Without `secrets` the result may be written to disk.
    """
    result = {HOME_VARIABLE: str(settings.paths.home)}
    for key, source in settings._sources.items():  # noqa: SLF001  # same package
        section, _, name = key.partition(".")
        value = getattr(getattr(settings, section), name)
        if key == "paths.home" or source == "default" or (isinstance(value, SecretStr) and not secrets):
            continue
        result[env_name(key)] = _as_variable(value)
    return result


def _as_variable(value: object) -> str:
    if value is None:
        return ""  # "not set", also over a file that sets it
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return ",".join(value) if isinstance(value, tuple) else str(value)
