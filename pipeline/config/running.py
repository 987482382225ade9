"""Settings that know of the local stack that runs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.config.sources import load_settings
from pipeline.config.tree import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.laptop.home import Home
from pipeline.laptop.stack import answers, find_stack

EMULATOR_KEY = "headrace"  # the emulator checks no signature, but a client must send one

_CHOSEN = ("aws.region", "aws.access_key_id", "aws.endpoint_url")


def emulator_overrides(endpoint: str) -> dict[str, dict[str, Any]]:
    """Give the settings that point every client at the emulator, and never a real key."""
    keys = {"access_key_id": EMULATOR_KEY, "secret_access_key": EMULATOR_KEY}
    return {"aws": {"endpoint_url": endpoint, "region": "us-east-1", **keys}}


def settings_with_stack(
    home: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    warn: Callable[[str], None],
) -> Settings:
    """Load the settings and find the stack by itself.

    A local stack that answers is used, unless `aws.endpoint_url` says otherwise; without its loader it still takes events
    and gives what it has, with a warning. AWS itself is meant when the region, a
    key or an endpoint was set and no local stack runs.

    Raises:
        ConfigProblem: a setting is wrong, or there is nothing to talk to.
    """
    given = {**(overrides or {}), "paths": {**(overrides or {}).get("paths", {}), "home": home}}
    settings = load_settings(given)
    if settings.aws.endpoint_url is not None:
        return settings
    finding = find_stack(Home(settings.paths.home))
    if finding.stack is not None and answers(finding):
        if finding.status != "running":
            warn(finding.reason)
        return load_settings({**given, **emulator_overrides(finding.stack.endpoint_url)})
    if finding.status == "absent" and any(settings.source(key) != "default" for key in _CHOSEN):
        return settings
    raise ConfigProblem(finding.reason)
