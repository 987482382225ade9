"""Settings: four sources in their order, every problem at once, no secret shown."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config import as_environment, describe, load_settings, reference
from pipeline.core.errors import ConfigProblem


def file_with(folder: Path, text: str) -> dict[str, str]:
    path = folder / "headrace.toml"
    path.write_text(text, encoding="utf-8")
    return {"HEADRACE_HOME": str(folder)}


def problems(environ: dict[str, str], overrides: dict[str, dict[str, object]] | None = None) -> list[str]:
    with pytest.raises(ConfigProblem) as caught:
        load_settings(overrides, environ)
    return str(caught.value).splitlines()


def test_defaults_are_valid_and_say_so() -> None:
    """Without any source every setting has its default and the source `default`."""
    settings = load_settings(environ={})
    assert (settings.stream.name, settings.stream.shards, settings.segment.max_bytes) == (
        "headrace-events",
        2,
        2**26,
    )
    assert {row.source for row in describe(settings)} == {"default"}


def test_a_higher_source_wins(tmp_path: Path) -> None:
    """A flag wins over the environment, the environment over the file, the file over the default."""
    environ = file_with(tmp_path, "[stream]\nname = 'file'\nshards = 3\nslots = 70\n")
    environ |= {"HEADRACE_STREAM__SHARDS": "4", "HEADRACE_STREAM__SLOTS": "80"}
    settings = load_settings({"stream": {"slots": 90, "name": None}}, environ)
    assert (settings.stream.name, settings.stream.shards, settings.stream.slots) == ("file", 4, 90)
    sources = {row.key: row.source for row in describe(settings)}
    assert sources["stream.name"] == f"file {tmp_path / 'headrace.toml'}"
    assert sources["stream.shards"] == "environment HEADRACE_STREAM__SHARDS"
    assert sources["stream.slots"] == "flag"


def test_the_named_file_is_read(tmp_path: Path) -> None:
    """HEADRACE_CONFIG names the file, wherever it lies, and it must exist."""
    path = tmp_path / "other.toml"
    path.write_text("[stream]\nshards = 7\n", encoding="utf-8")
    assert load_settings(environ={"HEADRACE_CONFIG": str(path)}).stream.shards == 7
    assert problems({"HEADRACE_CONFIG": str(tmp_path / "absent.toml")})[0].endswith(
        "correct or unset HEADRACE_CONFIG"
    )


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    """One line per problem, from all sources, each with key, value, source, limit and remedy."""
    environ = file_with(tmp_path, "[segment]\nmax_rows = true\n[query]\nengine = 'spark'\n")
    environ |= {"HEADRACE_STREAM__SHARDS": "two", "HEADRACE_EVENTS__MAX_EVENT_BYTES": "1048577"}
    lines = problems(environ, {"producer": {"linger_ms": -1}})
    path = tmp_path / "headrace.toml"
    assert sorted(lines) == sorted(
        [
            f"segment.max_rows = True from file {path}: must be a number; correct it in {path}",
            f"query.engine = 'spark' from file {path}: must be one of duckdb, athena; correct it in {path}",
            (
                "stream.shards = 'two' from environment HEADRACE_STREAM__SHARDS: must be a whole number from 1 to 10000; "
                "correct or unset HEADRACE_STREAM__SHARDS"
            ),
            (
                "events.max_event_bytes = '1048577' from environment HEADRACE_EVENTS__MAX_EVENT_BYTES: must be a whole "
                "number from 1024 to 1048576; correct or unset HEADRACE_EVENTS__MAX_EVENT_BYTES"
            ),
            "producer.linger_ms = -1 from flag: must be a whole number from 0 to 60000; correct the flag",
        ]
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("HEADRACE_STREAM__SHARD", "HEADRACE_STREAM__SHARDS"),
        ("HEADRACE_SHARDS", "HEADRACE_STREAM__SHARDS"),
        ("HEADRACE_stream__shards", "HEADRACE_STREAM__SHARDS"),
        ("HEADRACE_STREAMS__SHARDS", "HEADRACE_STREAM__SHARDS"),
    ],
)
def test_an_unknown_variable_is_refused(name: str, hint: str) -> None:
    """A misspelt HEADRACE_ variable is refused and the nearest name is offered."""
    assert problems({name: "3"}) == [
        f"{name} = '3' from environment: no such setting; did you mean {hint}?; unset it",
    ]


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[stream]\nshard = 3\n", "stream.shard = 3 from file"),
        ("[streams]\n", "streams = {} from file"),
        ("stream = 3\n", "stream = 3 from file"),
        ("[paths]\nhome = '/elsewhere'\n", "paths.home from file"),
    ],
)
def test_an_unknown_key_of_the_file_is_refused(tmp_path: Path, text: str, start: str) -> None:
    """A key, a section or a bare value that the tree does not know is refused."""
    lines = problems(file_with(tmp_path, text))
    assert len(lines) == 1
    assert lines[0].startswith(start)


def test_a_broken_file_is_one_problem(tmp_path: Path) -> None:
    """A file that is not TOML names the file and the line, and the other sources are still checked."""
    lines = problems(file_with(tmp_path, "[stream\n") | {"HEADRACE_STREAM__SHARDS": "0"})
    assert len(lines) == 2
    assert "not TOML" in lines[0]
    assert "line 1" in lines[0]


@pytest.mark.parametrize(
    "environ",
    [
        {"HEADRACE_AWS__SECRET_ACCESS_KEY": "hunter2"},
        {"HEADRACE_AWS__SECRET_ACCES_KEY": "hunter2"},
        {"HEADRACE_AWS_SECRET_ACCESS_KEY": "hunter2"},
        {"HEADRACE_AWS__ENDPOINT_URL": "ftp://user:hunter2@host"},
    ],
)
def test_a_secret_never_reaches_a_message(environ: dict[str, str]) -> None:
    """A secret stays out of a problem's text, even when its variable is misspelt."""
    assert "hunter2" not in "\n".join(problems(environ))


def test_secrets_are_hidden_when_shown() -> None:
    """Neither the listing nor the representation of the settings holds a secret."""
    environ = {"HEADRACE_AWS__ACCESS_KEY_ID": "AKIA2", "HEADRACE_AWS__SECRET_ACCESS_KEY": "hunter2"}
    settings = load_settings(environ=environ)
    shown = repr(describe(settings)) + repr(settings) + repr(as_environment(settings, secrets=False))
    assert "hunter2" not in shown
    assert "AKIA2" not in shown


def test_slots_cover_the_shards() -> None:
    """More shards than slots are refused, also when the slots are the default."""
    assert problems({"HEADRACE_STREAM__SHARDS": "65"})[0].startswith(
        "stream.slots = 64 from default: must be at least"
    )


def test_a_bad_tenant_is_named() -> None:
    """A tenant that could not be part of an object key is refused by its own value."""
    assert "'B/B' (item 1)" in problems({"HEADRACE_EVENTS__TENANTS": "aa,B/B"})[0]


@pytest.mark.parametrize("home", ["", "~no-such-user-here/x"])
def test_a_home_that_is_none_is_refused(home: str) -> None:
    """An empty home, or one of an unknown user, is refused instead of meaning the current folder."""
    assert problems({"HEADRACE_HOME": home})[0].startswith("paths.home")


@pytest.mark.parametrize(("value", "on"), [("true", True), ("True", True), ("false", False)])
def test_a_switch(value: str, on: bool) -> None:
    """A switch is true or false, as a person or a parent process writes it."""
    assert load_settings(environ={"HEADRACE_METRICS__EMF": value}).metrics.emf is on


@pytest.mark.parametrize("value", ["1", "yes", ""])
def test_a_switch_is_nothing_else(tmp_path: Path, value: str) -> None:
    """What might mean either is refused, from the environment and from the file."""
    assert problems({"HEADRACE_METRICS__EMF": value})[0].endswith(
        "must be true or false; correct or unset HEADRACE_METRICS__EMF"
    )
    assert "must be true or false" in problems(file_with(tmp_path, "[metrics]\nemf = 1\n"))[0]


def test_a_namespace_of_aws_is_refused() -> None:
    """CloudWatch would drop its metrics without a word."""
    assert "must not begin with AWS/" in problems({"HEADRACE_METRICS__NAMESPACE": "AWS/Kinesis"})[0]


def test_a_child_loads_the_same_settings(tmp_path: Path) -> None:
    """The environment given to a child process makes it load equal settings, whatever their source was."""
    environ = file_with(tmp_path, "[events]\ntenants = ['aa', 'bb']\n[aws]\nendpoint_url = 'http://a:1'\n")
    environ |= {"HEADRACE_AWS__ACCESS_KEY_ID": "id", "HEADRACE_AWS__SECRET_ACCESS_KEY": "hunter2"}
    environ |= {"HEADRACE_AWS__ENDPOINT_URL": "", "HEADRACE_METRICS__EMF": "true"}
    settings = load_settings({"stream": {"shards": 5}}, environ)
    again = load_settings(environ=as_environment(settings))
    assert again.aws.endpoint_url is None
    assert again.model_dump() == settings.model_dump()


def test_settings_are_frozen() -> None:
    """Nothing can change a setting after it was loaded."""
    with pytest.raises(ValidationError):
        load_settings(environ={}).stream.shards = 3


def test_every_setting_is_described() -> None:
    """Each setting has a meaning, a variable and says what it takes."""
    rows = reference()
    assert len(rows) == len(describe(load_settings(environ={})))
    assert all(row.description and row.allowed and row.variable.startswith("HEADRACE_") for row in rows)


def test_settings_need_no_cloud_library() -> None:
    """Loading the settings imports neither boto3 nor the emulator."""
    code = "import sys, pipeline.config; sys.exit(any(m in sys.modules for m in ('boto3', 'botocore', 'ministack')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
