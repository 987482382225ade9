"""What a statement cannot reach, whatever it says."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from pipeline.laptop.duck_session import open_session


def test_the_engine_itself_cannot_reach_other_files(tmp_path: Path) -> None:
    """Behind the check of tables DuckDB is confined too, and cannot be set free."""
    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    inside = tmp_path / "cache" / "inside.csv"
    inside.parent.mkdir()
    inside.write_text("a\n1\n")
    session = open_session(inside.parent)
    assert session.execute(f"SELECT * FROM read_csv('{inside}')").fetchall() == [(1,)]
    local = pa.table({"a": [1]})
    assert local.num_rows
    for sql in (
        f"SELECT * FROM read_csv('{outside}')",
        f"SELECT * FROM read_text('{inside.parent}/../outside.csv')",
        f"SELECT * FROM '{outside}'",
        f"COPY (SELECT 1) TO '{outside}'",
        f"ATTACH '{tmp_path}/x.db'",
        "SELECT * FROM local",
        "SELECT * FROM read_parquet('http://localhost:1/x.parquet')",
        "SET enable_external_access = true",
        "SET memory_limit = '64GB'",
        "SET allowed_directories = ['/']",
        "INSTALL httpfs",
        "LOAD httpfs",
    ):
        with pytest.raises(duckdb.Error):
            session.execute(sql).fetchall()
