"""The commands that administer, as a user types them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli.group import cli
from pipeline.core.api_key import parse_key
from pipeline.core.tenant import Act
from pipeline.ports.clock import SystemClock
from pipeline.store.connect import sqlite_url
from pipeline.store.open import open_control


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def told(home: Path, *words: str) -> str:
    """Run a command that works; return what it printed."""
    done = CliRunner().invoke(cli, [*words, "--home", str(home)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def state(home: Path, *words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(told(home, *words, "--json"))
    return found


def answer(home: Path, *words: str) -> "dict[str, str] | list[dict[str, str]]":
    found: dict[str, str] | list[dict[str, str]] = json.loads(told(home, *words, "--json"))
    return found


def test_a_tenant_has_keys_and_a_history(home: Path) -> None:
    """What is added is listed, a key is shown once, and the acts say who did it."""
    told(home, "tenants", "add", "acme", "--plan", "premium", "--as", "jo")
    made = answer(home, "keys", "create", "acme", "--scope", "ingest,read", "--expires", "30d")
    assert isinstance(made, dict)
    secret = parse_key(made["key"]).secret
    later = [told(home, *words) for words in (["keys", "list"], ["keys", "show", made["id"]], ["acts"])]
    later.append(json.dumps(answer(home, "acts")))
    assert all(made["id"] in text for text in later)
    assert not any(secret in text for text in later)
    acts = answer(home, "acts", "--subject", "tenant:acme")
    assert isinstance(acts, list)
    assert [(one["actor"], one["action"]) for one in acts] == [("jo", "tenant.add")]
    assert secret.encode() not in b"".join(path.read_bytes() for path in home.glob("control.sqlite*"))


def test_keys_end(home: Path) -> None:
    """A rotated key is ending, a revoked one revoked; a suspended tenant is shown as such."""
    told(home, "tenants", "add", "acme")
    old = answer(home, "keys", "create", "acme", "--scope", "read")
    assert isinstance(old, dict)
    new = answer(home, "keys", "rotate", old["id"], "--overlap", "1h")
    assert isinstance(new, dict)
    told(home, "keys", "revoke", new["id"])
    listed = answer(home, "keys", "list", "--tenant", "acme")
    assert isinstance(listed, list)
    assert {one["id"]: one["state"] for one in listed} == {old["id"]: "ending", new["id"]: "revoked"}
    assert "suspended" in told(home, "tenants", "suspend", "acme")


def test_a_tenant_of_the_settings_is_taken_in_with_its_first_key(home: Path) -> None:
    """Who is in events.tenants need not be added by hand."""
    told(home, "keys", "create", "aa", "--scope", "ingest")
    assert "basic" in told(home, "tenants", "show", "aa")


@pytest.mark.parametrize(
    "words",
    [
        ["tenants", "add", "acme", "--plan", "gold"],
        ["keys", "create", "nobody", "--scope", "read"],
        ["keys", "create", "aa", "--scope", "fly"],
        ["keys", "create", "aa", "--scope", "read", "--expires", "soon"],
        ["clients", "add", "c1", "nobody", "--scope", "read"],
        ["plans", "show", "gold"],
        ["schema", "publish", "nowhere/1.json"],
    ],
)
def test_errors_say_what_to_do(home: Path, words: list[str]) -> None:
    """A wrong word is refused in one sentence, and nothing is stored."""
    done = CliRunner().invoke(cli, [*words, "--home", str(home)])
    assert done.exit_code != 0
    assert answer(home, "acts") == []


def test_a_client_without_a_user_pool_is_told_what_lacks(home: Path) -> None:
    """As long as no issuer is set none of its tokens can be taken."""
    told(home, "tenants", "add", "acme")
    done = CliRunner().invoke(
        cli, ["clients", "add", "c1", "acme", "--scope", "read", "--home", str(home), "--json"]
    )
    assert done.exit_code == 0
    assert "auth.issuer" in done.stderr
    assert "auth.issuer" not in done.stdout


def test_a_missing_file_is_named_by_what_was_typed(home: Path) -> None:
    """A file that is published has nothing to do with the setting of those that come along."""
    done = CliRunner().invoke(cli, ["schema", "publish", "nowhere/1.json", "--home", str(home)])
    assert "nowhere/1.json: cannot be read" in str(done.exception)
    assert "paths.schemas" not in str(done.exception)


def test_a_published_schema_is_listed(home: Path, tmp_path: Path) -> None:
    """A version that is published is one of the event types, and stays as it is."""
    file = tmp_path / "door.opened" / "1.json"
    file.parent.mkdir()
    file.write_text('{"type": "object", "properties": {"n": {"type": "integer"}}}')
    told(home, "schema", "publish", str(file))
    assert "door_opened" in told(home, "schema", "list")
    file.write_text('{"type": "object"}')
    assert CliRunner().invoke(cli, ["schema", "publish", str(file), "--home", str(home)]).exit_code != 0


def test_a_script_reads_the_state_of_the_control_store(home: Path) -> None:
    """Before the first command it is absent and not usable; `migrate` says whether it did anything."""
    absent = CliRunner().invoke(cli, ["control", "status", "--json", "--home", str(home)])
    assert (absent.exit_code, json.loads(absent.stdout)) == (1, {"state": "absent", "usable": False})
    assert state(home, "control", "migrate") == {"state": "current", "migrated": True}
    assert state(home, "control", "migrate") == {"state": "current", "migrated": False}
    assert state(home, "control", "status") == {"state": "current", "usable": True}


def test_a_schema_that_is_there_already_is_shown_as_it_is(home: Path, tmp_path: Path) -> None:
    """The very same document again names who published it and when, as programs read it too."""
    file = tmp_path / "door.opened" / "1.json"
    file.parent.mkdir()
    file.write_text('{"type": "object", "properties": {"n": {"type": "integer"}}}')
    first = state(home, "schema", "publish", str(file), "--as", "jo")
    again = state(home, "schema", "publish", str(file), "--as", "ann")
    assert (first["new"], first["owner"], first["published_by"]) == (True, None, "jo")
    assert again == first | {"new": False}


@pytest.mark.parametrize(
    "words",
    [
        ["tenants", "show", "nobody"],
        ["tenants", "plan", "nobody", "basic"],
        ["tenants", "add", "beta", "--plan", "gold"],
        ["plans", "show", "gold"],
        ["plans", "put", "silver", "--like", "gold"],
        ["keys", "create", "nobody", "--scope", "read"],
        ["keys", "list", "nobody"],
        ["keys", "show", "00ff11ee22dd33cc"],
        ["clients", "add", "c1", "nobody", "--scope", "read"],
        ["clients", "list", "--tenant", "nobody"],
        ["clients", "show", "c1"],
    ],
    ids=" ".join,
)
def test_a_name_that_is_nobodys_is_one_exit_code(home: Path, words: list[str]) -> None:
    """Whatever it names: nothing was done, the code is 2, and the sentence says what there is or how to make it."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *words, "--home", str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.match(
        r"headrace: no (tenant|plan|key|client) '.*`headrace|headrace: no plan .*known: ", done.stderr
    )


def test_a_list_of_one_tenant(home: Path) -> None:
    """Named as an argument or an option; twice is once, two are refused; a tenant of the settings alone has none yet."""
    for tenant in ("acme", "globex"):
        told(home, "tenants", "add", tenant)
        told(home, "keys", "create", tenant, "--scope", "read")
        told(home, "clients", "add", f"c-{tenant}", tenant, "--scope", "read")
    for kind in ("keys", "clients"):
        for words in (["acme"], ["--tenant", "acme"], ["acme", "--tenant", "acme"]):
            found = answer(home, kind, "list", *words)
            assert isinstance(found, list)
            assert [one["tenant"] for one in found] == ["acme"]
        assert len(answer(home, kind, "list")) == 2
        refused = CliRunner().invoke(cli, [kind, "list", "acme", "--tenant", "globex", "--home", str(home)])
        assert refused.exit_code == 2
        assert "two tenants" in refused.output
    assert "no keys" in told(home, "keys", "list", "aa")


def test_acts_show_times(home: Path) -> None:
    """A person reads when a key ends; a program has the microseconds."""
    told(home, "tenants", "add", "acme")
    made = answer(home, "keys", "create", "acme", "--scope", "read", "--expires", "30d")
    assert isinstance(made, dict)
    raw = json.loads(told(home, "acts", "--json"))[0]["details"]["expires_us"]
    shown = told(home, "acts", "--subject", f"key:{made['id']}")
    assert f'"expires": "{made["expires"]}"' in shown
    assert isinstance(raw, int)
    assert str(raw) not in shown


def test_acts_of_rate_limit_policies_are_shown(home: Path) -> None:
    """What a credential changed over HTTP is found under the policy's name, with its limit."""
    told(home, "tenants", "add", "acme")
    control = open_control(sqlite_url(home / "control.sqlite"), SystemClock())
    control.note(Act(1, "key:00ff", "policy.put", "policy:acme/logins", {"tenant": "acme", "tokens": 5}))
    control.close()
    acts = answer(home, "acts", "--subject", "policy:acme/logins")
    assert isinstance(acts, list)
    assert [(one["actor"], one["action"]) for one in acts] == [("key:00ff", "policy.put")]
    assert '"tokens": 5' in told(home, "acts")
