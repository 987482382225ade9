"""Processes, started as `python -m consumers.<name>`; all thin over pipeline.flows."""
