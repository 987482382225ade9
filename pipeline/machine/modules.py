"""How a program of ours is started as a process: the same code, wherever its user stands."""

import sys


def module_command(name: str, *words: str) -> tuple[str, ...]:
    """Return the command that runs an installed module of this Python, with its arguments."""
    # -P: `-m` alone looks into the current folder first, where users have folders called `pipeline` and `consumers`, too.
    return (sys.executable, "-P", "-m", name, *words)
