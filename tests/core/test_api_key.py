"""API keys: what they look like, and what is taken for one."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.api_key import (
    MAX_KEY_CHARACTERS,
    RANDOM_BYTES,
    make_key,
    parse_key,
    secret_hash,
    secret_matches,
)
from pipeline.core.caller import Denied

RANDOM = bytes(range(RANDOM_BYTES))


def test_a_key_has_this_form_for_ever() -> None:
    """Keys are kept by their owners for years, so each letter of the form is fixed."""
    key = make_key("live", RANDOM)
    assert key.text == "hr_live_0001020304050607_05NFXr4zgufl7lzF6nqBPeXmuDqYNbvZv_2Vc7sE"
    assert key.id == "0001020304050607"


@given(
    st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES), st.from_regex(r"[a-z0-9]{1,16}", fullmatch=True)
)
def test_what_is_made_can_be_read_and_matches(randomness: bytes, environment: str) -> None:
    """A key leads to its id and to the secret whose hash is stored."""
    key = make_key(environment, randomness)
    shown = parse_key(key.text)
    assert len(key.text) <= MAX_KEY_CHARACTERS
    assert shown.id == key.id
    assert secret_matches(shown.secret, key.secret_hash)


def test_only_the_hash_of_the_secret_is_kept() -> None:
    """What is stored is the SHA-256 of the secret's text, and another secret does not match it."""
    key = make_key("live", RANDOM)
    secret = parse_key(key.text).secret
    assert key.secret_hash == hashlib.sha256(secret.encode()).digest() == secret_hash(secret)
    assert not secret_matches(secret[::-1], key.secret_hash)


def test_a_key_does_not_show_itself() -> None:
    """The repr of a new key, as a log or a failing assertion prints it, has the id alone."""
    key = make_key("live", RANDOM)
    assert repr(key) == "NewKey(id='0001020304050607')"


@given(st.integers(0, 67), st.sampled_from("0Aaz_-é \x00"))
def test_any_wrong_letter_is_seen(place: int, letter: str) -> None:
    """A key with one other letter is refused without asking anybody."""
    text = make_key("live", RANDOM).text
    changed = text[:place] + letter + text[place + 1 :]
    if changed != text:
        with pytest.raises(Denied):
            parse_key(changed)


@pytest.mark.parametrize(
    "text", ["", "hr_", "x" * 10_000_000, make_key("live", RANDOM).text + "\n", "hr_live_\u0660"]
)
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    """Anything else is refused with one code, and the message has nothing of it."""
    with pytest.raises(Denied) as refused:
        parse_key(text)
    assert refused.value.code == "malformed_key"
    assert not text.strip() or text not in str(refused.value).replace("hr_,", "")


def test_too_little_randomness_is_refused() -> None:
    """A key is never made from fewer bytes than it is said to have."""
    with pytest.raises(ValueError, match="random bytes"):
        make_key("live", RANDOM[:-1])
