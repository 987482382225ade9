"""Secrets out of Secrets Manager: found by name, ARN and member, and no message quotes one."""

import traceback
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pipeline.config import Settings, as_environment, load_settings
from pipeline.core.errors import ConfigProblem, HeadraceError, Transient
from pipeline.laptop import emulator
from pipeline.laptop.home import Home
from pipeline.wiring.control import control_url
from pipeline.wiring.signing import signing_key

VALUE = "0123456789abcdef0123456789abcdef"
URL = f"postgresql://user:{VALUE}@db/control"


def _settings(endpoint: str | None, **sections: Any) -> Settings:
    aws = {"access_key_id": "test", "secret_access_key": "test", "retry_seconds": 0, "max_attempts": 1}
    return load_settings({"aws": aws | {"endpoint_url": endpoint}, **sections}, environ={})


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The emulator with Secrets Manager alone."""
    home = Home(tmp_path_factory.mktemp("secrets"))
    for path in (home.run, home.state, home.objects, home.emulator_log.parent):
        path.mkdir(parents=True)
    port = emulator.free_port()
    child = emulator.start_emulator(
        home, port, dies_with_parent=False, services=f"{emulator.SERVICES},secretsmanager"
    )
    try:
        emulator.wait_healthy(child, home, port, 0)
        yield emulator.endpoint_url(port)
    finally:
        child.kill()
        child.wait()


def _client(endpoint: str | None) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client("secretsmanager", region_name="us-east-1", endpoint_url=endpoint, **keys)  # type: ignore[call-overload]


def _holds(endpoint: str | None) -> None:
    client = _client(endpoint)
    arn = client.create_secret(Name="headrace/key", SecretString=VALUE)["ARN"]
    client.create_secret(Name="headrace/all", SecretString=f'{{"url": "{URL}", "port": 5432}}')
    client.create_secret(Name="headrace/bytes", SecretBinary=b"x")
    plain = signing_key(_settings(endpoint, web={"signing_key": VALUE}))
    for name in ("headrace/key", arn):
        assert signing_key(_settings(endpoint, web={"signing_key": f"secretsmanager:{name}"})) == plain
    assert control_url(_settings(endpoint, control={"url": "secretsmanager:headrace/all#url"})) == URL
    for given, said in {
        "": "must be followed by",
        "headrace/none": "there is no secret 'headrace/none'",
        "headrace/all#user": "no text under 'user'",
        "headrace/all#port": "no text under 'port'",
        "headrace/key#url": "no JSON object",
        "headrace/bytes": "bytes or nothing",
    }.items():
        with pytest.raises(ConfigProblem, match=said) as refused:
            control_url(_settings(endpoint, control={"url": f"secretsmanager:{given}"}))
        assert str(refused.value).startswith("control.url: ")
        assert VALUE not in "".join(traceback.format_exception(refused.value))


def test_a_secret_is_read_by_name_arn_and_member(endpoint: str) -> None:
    """Of the emulator; what cannot be read names the setting and the secret, never its text."""
    _holds(endpoint)


def test_a_second_emulator_agrees() -> None:
    """Moto answers the same."""
    with mock_aws():
        _holds(None)


def test_settings_show_the_reference_alone(endpoint: str) -> None:
    """What child processes are given names the secret, also after it was read."""
    settings = _settings(endpoint, control={"url": "secretsmanager:headrace/all#url"})
    assert control_url(settings) == URL
    assert as_environment(settings)["HEADRACE_CONTROL__URL"] == "secretsmanager:headrace/all#url"


def test_a_service_that_is_down_is_told_as_such() -> None:
    """The start fails with an error that a supervisor tries again."""
    settings = _settings("http://127.0.0.1:1", control={"url": "secretsmanager:headrace/down"})
    with pytest.raises(HeadraceError) as failed:
        control_url(settings)
    assert isinstance(failed.value, Transient)
