"""Install the servers that some tests need: `python -m tests.servers`; says loudly which cannot be had."""

from tests.servers import dynamodb_local, kinesis_local
from tests.servers.install import NotHere


def main() -> None:
    """Install what can be installed; what cannot is named, and its tests will be skipped."""
    for name, install in (
        ("DynamoDB Local", dynamodb_local.install),
        ("kinesis-local", kinesis_local.install),
    ):
        try:
            print(f"{name}: {install()}")
        except NotHere as why:
            print(f"WARNING: {name} is not here, its tests will be SKIPPED: {why}")


if __name__ == "__main__":
    main()
