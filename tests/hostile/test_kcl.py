"""The aggregates of the corpus, taken apart by KCL's own class: the verdict on each user record is the same.

Needs Java 17 and KCL's jars: those of amazon_kclpy, or a folder named by TEST_KCL_JARS.
"""

import base64
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from consumers.java import CLASSES
from consumers.multilang import WireRecord, to_records
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.kpl import is_aggregate
from pipeline.core.subsequence import stream_order
from tests.core.kit import ARRIVED_US, rules_for
from tests.hostile.case import ARCHIVED, SCHEMA, Case
from tests.hostile.corpus import CASES

AGGREGATES = [case for case in CASES if is_aggregate(case.payload)]
# What KCL hands over of aggregates that we refuse whole; None: nothing at all.
LAXER: dict[str, tuple[str, ...] | None] = {
    "aggregate/no records": None,
    "aggregate/record with data twice": ("not_json",),  # the last one; the event is gone
    "aggregate/record with an unknown field": (ARCHIVED,),
    "aggregate/message with an unknown field": (ARCHIVED,),
    "aggregate/message with a number for a record": (ARCHIVED,),
}


def _jars() -> str:
    found = importlib.util.find_spec("amazon_kclpy")
    folder = os.environ.get("TEST_KCL_JARS") or (
        str(Path(found.origin).parent / "jars") if found and found.origin else ""
    )
    if (
        not folder
        or not list(Path(folder).glob("amazon-kinesis-client-*.jar"))
        or shutil.which("java") is None
    ):
        pytest.skip(
            "KCL's own de-aggregation needs Java 17 and KCL's jars: the extra `kcl`, or TEST_KCL_JARS"
        )
    return f"{CLASSES}{os.pathsep}{folder}/*"


def _verdicts(parts: list[str]) -> tuple[str, ...]:
    """Return what becomes of the user records that KCL hands over."""
    decoded, records = Decoded(), []
    for part in parts:
        number, _, data = part.partition(":")
        records.append(WireRecord("1", int(number), "key", ARRIVED_US // 1_000, base64.b64decode(data)))
    Decoder(rules_for(SCHEMA)).decode(to_records(records), 0, decoded)
    found = [(stream_order(row.subsequence_number), ARCHIVED) for row in decoded.rows]
    found += [(stream_order(one.subsequence_number), str(one.code)) for one in decoded.refusals]
    return tuple(verdict for _, verdict in sorted(found))


def _differs(case: Case) -> tuple[str, ...] | None:
    return LAXER.get(case.kind, case.expected)


def test_kcl_and_we_take_aggregates_apart_alike(tmp_path: Path) -> None:
    """The same user records, or the whole refused; where KCL is laxer, it is known how."""
    jars, source = _jars(), tmp_path / "in"
    source.write_text("".join(base64.b64encode(case.payload).decode() + "\n" for case in AGGREGATES))
    program = Path(__file__).with_name("Split.java")
    ran = subprocess.run(
        ["java", "-cp", jars, str(program), str(source)], capture_output=True, text=True, check=True
    )
    lines = [line.split()[1:] for line in ran.stdout.splitlines() if line.startswith("=")]
    found = {
        case.kind: None if not parts or parts[0] == "!" else _verdicts(parts)
        for case, parts in zip(AGGREGATES, lines, strict=True)
    }
    assert found == {case.kind: _differs(case) for case in AGGREGATES}


def test_our_class_is_what_its_source_says(tmp_path: Path) -> None:
    """Compiled again, the class that stands in for Java's has the same code."""
    compiler, reader = shutil.which("javac"), shutil.which("javap")
    if compiler is None or reader is None:
        pytest.skip("to compile it again needs a JDK (javac, javap)")
    name = "javax/xml/bind/DatatypeConverter"
    source = str(CLASSES / f"{name}.java")
    command = [compiler, "--release", "11", "-g:none", "-nowarn", "-cp", _jars(), "-d", str(tmp_path), source]
    subprocess.run(command, check=True, capture_output=True)
    found = [
        subprocess.run([reader, "-p", "-c", str(folder / f"{name}.class")], check=True, capture_output=True)
        for folder in (CLASSES, tmp_path)
    ]
    assert b"InvalidProtocolBufferException" in found[0].stdout
    assert found[0].stdout == found[1].stdout
