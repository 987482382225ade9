"""What every process of ours does before anything heavy is imported."""

import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec


class _NoPandas(MetaPathFinder):
    """Makes `import pandas` fail as if it were not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is not used by headrace", name=fullname)
        return None


def without_pandas() -> None:
    """Keep pyarrow from importing pandas at its first array, where some package has installed it.

    Saves 0.8 s and 40 MB in every process; nothing of ours uses it.
    """
    sys.meta_path.insert(0, _NoPandas())
