"""Run any number of seeds: `python -m tests.sim --seeds 5000 [--first N] [--guard NAME|all] [--jobs 2] [--table]`."""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial

from tests.sim.oracle import names
from tests.sim.registry import SIMULATIONS, expected, simulate_one
from tests.sim.run import Outcome
from tests.sim.table import Row, write_table

MOST_SEEDS = 500  # within which every guard's absence is seen
_SAY_EVERY_SECONDS = 10.0


@dataclass
class Tally:
    """What many seeds gave under one guard."""

    guard: str
    seeds: int = 0
    seconds: float = 0.0
    broken: list[Outcome] = field(default_factory=list)

    @property
    def caught(self) -> list[Outcome]:
        """Return the seeds that broke an invariant this guard protects."""
        return [one for one in self.broken if names(one.violations) & expected(self.guard)]

    def row(self) -> Row:
        """Return what stands in `docs/guarantees.md`."""
        caught = self.caught
        counts = Counter(name for one in caught for name in names(one.violations) & expected(self.guard))
        first = caught[0].seed if caught else first_seen(self.guard, self.seeds).first
        return Row(self.guard, len(caught), first, tuple(name for name, _ in counts.most_common()))

    def line(self) -> str:
        """Return one line: how many seeds broke what."""
        counts = Counter(name for outcome in self.broken for name in names(outcome.violations))
        found = "; ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
        first = f"first seed {self.broken[0].seed}" if self.broken else "none"
        rate = self.seeds / self.seconds
        return f"{self.guard:38} {len(self.broken):5} of {self.seeds} seeds, {first}, {rate:.0f} seeds/s  {found}"


def first_seen(guard: str, begin: int = 0) -> Row:
    """Look for the first seed only, as far as `tests/sim/test_guards.py` does."""
    for seed in range(begin, MOST_SEEDS):
        found = sorted(names(simulate_one(guard, seed).violations) & expected(guard))
        if found:
            return Row(guard, None, seed, tuple(found))
    return Row(guard, None, None, ())


def quick_table(jobs: int) -> int:
    """Write the table with first seeds and no counts: a minute instead of an hour; 0 when every guard's absence is seen."""
    guards = [name for name in SIMULATIONS if expected(name)]
    with ProcessPoolExecutor(jobs) as pool:
        rows = list(pool.map(first_seen, guards))
    write_table(rows, MOST_SEEDS)
    return int(any(row.first is None for row in rows))


def run(guard: str, first: int, seeds: int, jobs: int, *, as_json: bool = False) -> Tally:
    """Run seeds under one guard, telling now and then how far it is."""
    tally, began, said = Tally(guard), time.monotonic(), time.monotonic()
    for outcome in _outcomes(guard, range(first, first + seeds), jobs):
        tally.seeds += 1
        if outcome.violations:
            tally.broken.append(outcome)
        if time.monotonic() - said > _SAY_EVERY_SECONDS:
            said = time.monotonic()
            sys.stderr.write(f"  {guard}: {tally.seeds}/{seeds} seeds, {len(tally.broken)} broken\n")
    tally.seconds = time.monotonic() - began
    print(json.dumps(tally.row()._asdict()) if as_json else tally.line(), flush=True)
    return tally


def _outcomes(guard: str, seeds: range, jobs: int) -> Iterator[Outcome]:
    one = partial(simulate_one, guard)
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, seeds, chunksize=max(1, min(10, len(seeds) // (4 * jobs))))


def main() -> int:
    """Run what the command line asks for; 0 when nothing broke, and every guard's absence was caught."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--guard", choices=[*SIMULATIONS, "all"], default="none", help="the guard to switch off"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per guard instead of a line")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="every effect of a failed seed")
    parser.add_argument("--table", action="store_true", help="write the counts into docs/guarantees.md")
    parser.add_argument("--quick-table", action="store_true", help="the same with first seeds only")
    chosen = parser.parse_args()
    if chosen.quick_table:
        return quick_table(chosen.jobs)
    tallies: list[Tally] = []
    rows: list[Row] = []
    for name in SIMULATIONS if chosen.guard == "all" else [chosen.guard]:
        tally = run(name, chosen.first, chosen.seeds, chosen.jobs, as_json=chosen.json)
        tallies.append(tally)
        if tally.broken and (chosen.seeds == 1 or not expected(name)):
            print(tally.broken[0].report(full=chosen.full))
        if chosen.table and expected(name):
            rows.append(tally.row())
            write_table(rows, chosen.seeds)
    wrong = [one for one in tallies if (not one.caught if expected(one.guard) else one.broken)]
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
