"""The control store in SQL: models, migrations, and the adapter of `pipeline.ports.control`."""
