"""The steps from an empty database to the tables of today; see `pipeline.store.migrate`."""
