"""One frozen settings tree, read from flags, environment, file and defaults; every problem reported at once.

`kinds` holds the types, `tree` the fields with their limits and meaning; `sources` reads and merges; `problems` words
what is wrong.
"""

from pipeline.config.kinds import default_home
from pipeline.config.sources import (
    SettingRow,
    as_environment,
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
