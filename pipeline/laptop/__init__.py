"""What replaces the cloud on one machine: the emulator, DuckDB, and the flights of 2013."""
