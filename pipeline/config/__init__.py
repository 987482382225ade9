"""One frozen settings tree, read from flags, environment, file and defaults; every problem reported at once.

`tree` holds the fields, their limits and what they mean; `sources` reads and merges; `problems` words what is wrong.
"""

from pipeline.config.sources import (
    SettingRow,
    as_environment,
    default_home,
    describe,
    load_settings,
    reference,
)
from pipeline.config.tree import Settings

__all__ = [
    "Settings",
    "load_settings",
    "describe",
    "reference",
    "as_environment",
    "default_home",
    "SettingRow",
]
