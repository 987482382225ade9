"""What the flows need from the world: one Protocol a file, each docstring a contract."""
