"""The `headrace` command, one file per command."""
