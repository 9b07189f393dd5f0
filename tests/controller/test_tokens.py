from __future__ import annotations

import base64
import random

import pytest

from jupyter_aios.controller.tokens import (
    MAX_WRONG,
    WINDOW_S,
    WRONG_TOKEN,
    WrongTokens,
    bearer,
    new_token,
    token_hash,
    wrong_token,
)
from jupyter_aios.errors import DeniedError


def text_of_new_token() -> str:
    return new_token().reveal().decode()


def headers(*values: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), *((b"authorization", value.encode("latin-1")) for value in values)]


def test_a_new_token_has_the_shape_that_scanners_look_for() -> None:
    tokens = {text_of_new_token() for _ in range(100)}
    assert len(tokens) == 100
    for text in tokens:
        assert text.startswith("aios_")
        assert len(text) == 45
        assert text == text.lower()
        assert bearer(headers(f"Bearer {text}")) == text
        assert bearer([(b"Authorization", f"bearer {text}".encode())]) == text


def test_the_hash_that_is_kept_is_sha_256() -> None:
    # FIPS 180-2, appendix B.1.
    assert token_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_every_typo_of_one_character_is_told_from_a_token_that_nobody_has() -> None:
    text = text_of_new_token()
    for at in range(5, len(text)):
        for other in "abcdefghijklmnopqrstuvwxyz234567":
            if other != text[at]:
                with pytest.raises(DeniedError, match="mistyped: its checksum does not fit"):
                    bearer(headers(f"Bearer {text[:at]}{other}{text[at + 1 :]}"))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "no token came with the request"),
        (["Bearer a", "Bearer b"], "2 Authorization headers came"),
        (["Basic {token}"], "holds no bearer token"),
        (["{token}"], "holds no bearer token"),
        (["Bearer"], "no token: aios_"),
        (["Bearer  {token}"], "no token: aios_"),
        (["Bearer {token} "], "no token: aios_"),
        (["Bearer {token}{token}"], "no token: aios_"),
        (["Bearer {TOKEN}"], "no token: aios_"),
        (["Bearer aios_"], "no token: aios_"),
        (["Bearer aios_é"], "no token: aios_"),
        (["Bearer ghp_{body}"], "no token: aios_"),
        (["Bearer aios_{short}"], "no token: aios_"),
    ],
)
def test_what_cannot_be_a_token_is_refused_without_repeating_it(
    values: list[str], told: str
) -> None:
    token = text_of_new_token()
    body = token.removeprefix("aios_")
    told_values = [
        value.format(token=token, TOKEN=token.upper(), body=body, short=body[:-8])
        for value in values
    ]
    with pytest.raises(DeniedError, match=told) as caught:
        bearer(headers(*told_values))
    assert body[:8] not in str(caught.value).lower()
    assert caught.value.hint == "%aios login URL"


def test_of_20_000_guesses_none_is_even_a_token() -> None:
    draw = random.Random(3)
    for _ in range(20_000):
        guess = base64.b32encode(draw.randbytes(25)).decode().lower()
        with pytest.raises(DeniedError, match="checksum"):
            bearer(headers(f"Bearer aios_{guess}"))


# ------------------------------------------------------------------------ wrong ones


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_address_with_many_different_wrong_tokens_has_to_wait(clock: Clock) -> None:
    wrong = WrongTokens(clock)
    for number in range(MAX_WRONG):
        assert wrong.wait_s("192.0.2.1") == 0
        wrong.note("192.0.2.1", f"hash {number}")
        clock.now += 1
    assert wrong.wait_s("192.0.2.1") == WINDOW_S - MAX_WRONG
    assert wrong.wait_s("192.0.2.2") == 0
    clock.now += WINDOW_S - MAX_WRONG
    assert wrong.wait_s("192.0.2.1") == 0


def test_one_old_token_in_a_loop_does_not_lock_out_the_room(clock: Clock) -> None:
    wrong = WrongTokens(clock)
    for _ in range(10 * MAX_WRONG):
        wrong.note("192.0.2.1", "the same")
    assert wrong.wait_s("192.0.2.1") == 0


def test_guessing_on_while_waiting_makes_no_wait_longer_nor_memory_larger(clock: Clock) -> None:
    wrong = WrongTokens(clock)
    for number in range(1000):
        wrong.note("192.0.2.1", f"hash {number}")
    assert wrong.wait_s("192.0.2.1") == WINDOW_S
    clock.now += WINDOW_S
    assert wrong.wait_s("192.0.2.1") == 0


def test_a_host_of_ipv6_does_not_escape_by_its_other_addresses(clock: Clock) -> None:
    wrong = WrongTokens(clock)
    for number in range(MAX_WRONG):
        wrong.note(f"2001:db8:0:1::{number:x}", f"hash {number}")
        wrong.note("::ffff:192.0.2.9", f"hash {number}")
    assert wrong.wait_s("2001:db8:0:1:ffff::1") > 0
    assert wrong.wait_s("2001:db8:0:2::1") == 0
    assert wrong.wait_s("192.0.2.9") > 0
    assert wrong.wait_s("::ffff:192.0.2.8") == 0


def test_very_many_addresses_push_out_the_oldest(clock: Clock) -> None:
    wrong = WrongTokens(clock)
    for number in range(MAX_WRONG):
        wrong.note("192.0.2.1", f"hash {number}")
    for number in range(10_000):
        wrong.note(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", "x")
    assert wrong.wait_s("192.0.2.1") == 0


def test_a_wrong_token_is_counted_where_somebody_counts() -> None:
    counted: list[int] = []
    error = wrong_token({WRONG_TOKEN: lambda: counted.append(1)}, "the token has expired")
    assert (str(error), counted) == ("the token has expired\nhint: %aios login URL", [1])
    assert wrong_token({}, "nobody has this token").message == "nobody has this token"
