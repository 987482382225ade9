"""`make bench`: a table of figures and ratios, and the same as JSON under bench-results/."""

import argparse
import gc
import json
import platform
import sys
from pathlib import Path

from pipeline.startup import light

light()

from tests.bench.cases import CASES  # noqa: E402 - after light()
from tests.bench.figure import Figure  # noqa: E402


def main() -> int:
    """Run the chosen cases."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="which to run; all by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the events, one round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, default=Path("bench-results/bench.json"))
    options = parser.parse_args()
    gc.freeze()
    found: dict[str, list[Figure]] = {}
    for name in options.cases or CASES:
        case = CASES[name]
        print(f"{name}: {case.run.__doc__}", file=sys.stderr)
        count = case.quick_events if options.quick else case.events
        found[name] = case.run(count, 1 if options.quick else options.rounds)
        for figure in found[name]:
            hold = f"   (hold: {figure.hold})" if figure.hold else ""
            print(f"  {figure.name:<58} {figure.value:>14,.2f} {figure.unit}{hold}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    body = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "figures": {name: [figure._asdict() for figure in figures] for name, figures in found.items()},
    }
    options.json.write_text(json.dumps(body, indent=2) + "\n")
    gc.unfreeze()  # or DuckDB's binding complains at the end of what was never freed
    return 0


if __name__ == "__main__":
    sys.exit(main())
