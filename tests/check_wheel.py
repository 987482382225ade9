"""Install-time check: the wheel carries what the product reads at run time."""

import sys
import zipfile
from pathlib import Path

NEEDED = (
    "pipeline/data/schemas/envelope.json",
    "pipeline/data/schemas/flight.departed/1.json",
    "pipeline/data/athena/tables/",
    "pipeline/data/athena/queries/",
    "consumers/reader.py",
    "consumers/kcl_classes/javax/xml/bind/DatatypeConverter.class",
)


def main(wheel: Path) -> int:
    """Print what is missing in a wheel; 0 when nothing is."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [need for need in NEEDED if not any(name.startswith(need) for name in names)]
    for need in missing:
        print(f"{wheel.name} lacks {need}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
