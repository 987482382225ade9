"""Run any number of seeds: `python -m tests.sim --seeds 5000 [--first N] [--guard NAME|all] [--jobs 2]`."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.sim.guards import GUARDS, NONE
from tests.sim.oracle import names
from tests.sim.run import Outcome, simulate

_SAY_EVERY_SECONDS = 2.0


@dataclass
class Tally:
    """What many seeds gave under one guard."""

    guard: str
    seeds: int = 0
    broken: list[Outcome] = field(default_factory=list)

    def line(self, seconds: float) -> str:
        """Return one line: how many seeds broke what."""
        counts = Counter(name for outcome in self.broken for name in names(outcome.violations))
        found = "; ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
        first = f"first seed {self.broken[0].seed}" if self.broken else "none"
        return (
            f"{self.guard:38} {len(self.broken):5} of {self.seeds} seeds, {first}, "
            f"{self.seeds / seconds:.0f} seeds/s  {found}"
        )


def run(guard: str, first: int, seeds: int, jobs: int) -> Tally:
    """Run seeds under one guard, telling now and then how far it is."""
    tally, began, said = Tally(guard), time.monotonic(), time.monotonic()
    for outcome in _outcomes(guard, range(first, first + seeds), jobs):
        tally.seeds += 1
        if outcome.violations:
            tally.broken.append(outcome)
        if time.monotonic() - said > _SAY_EVERY_SECONDS:
            said = time.monotonic()
            sys.stderr.write(f"  {guard}: {tally.seeds}/{seeds} seeds, {len(tally.broken)} broken\n")
    print(tally.line(time.monotonic() - began), flush=True)
    return tally


def _outcomes(guard: str, seeds: range, jobs: int) -> Iterator[Outcome]:
    one = partial(_one, guard)
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, seeds, chunksize=10)


def _one(guard: str, seed: int) -> Outcome:
    return simulate(seed, GUARDS[guard])


def main() -> int:
    """Run what the command line asks for; 0 when nothing broke, and every guard's absence was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--guard", choices=[*GUARDS, "all"], default=NONE.name, help="the guard to switch off"
    )
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    wrong = False
    for name in GUARDS if chosen.guard == "all" else [chosen.guard]:
        tally, expected = run(name, chosen.first, chosen.seeds, chosen.jobs), GUARDS[name].caught_by
        if tally.broken and (chosen.seeds == 1 or not expected):
            print(tally.broken[0].report())
        caught = any(names(outcome.violations) & expected for outcome in tally.broken)
        wrong |= not caught if expected else bool(tally.broken)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
