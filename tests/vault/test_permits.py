from __future__ import annotations

import base64
import json
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_aios.core.entities import JobId, Resources, UserId
from jupyter_aios.core.wire import to_plain
from jupyter_aios.errors import DeniedError, InputError
from jupyter_aios.vault.permits import (
    MAX_AGE_S,
    MAX_SKEW_S,
    MAX_TEXT_BYTES,
    Permit,
    check,
    issue,
    public_key,
)

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = bytes(range(32))
OTHER_SEED = bytes(range(1, 33))
NOW = 1_800_000_000.0
PERMIT = Permit(
    id="0123456789abcdef" * 2,
    user=UserId("ada"),
    job_id=JobId("20270115-080000-a1b2c3"),
    attempt=2,
    node="v0",
    code_hash="c" * 64,
    plan_hash="d" * 64,
    resources=Resources(cpu_milli=4000, memory_bytes=2**33, gpu_milli=1000),
    issued_at=NOW,
    expires_at=NOW + 60,
)
DOMAIN = b"jupyter_aios permit 1\0"
ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's group (RFC 8032, section 5.1)."""


def checked(text: str, key: str = public_key(SEED), **changes: Any) -> Permit:
    launch: dict[str, Any] = {
        "audience": PERMIT.node,
        "job_id": PERMIT.job_id,
        "attempt": PERMIT.attempt,
        "code_hash": PERMIT.code_hash,
        "plan_hash": PERMIT.plan_hash,
        "now": NOW + 1,
    }
    return check(text, key, **(launch | changes))


def refusal(text: str, key: str = public_key(SEED), **changes: Any) -> str:
    with pytest.raises(DeniedError) as caught:
        checked(text, key, **changes)
    return caught.value.message


def canonical(plain: dict[str, Any]) -> str:
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def armour(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def strip(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def signed(payload: bytes, seed: bytes = SEED, domain: bytes = DOMAIN) -> str:
    """Return any payload with a good signature: what only the controller could make."""
    signature = Ed25519PrivateKey.from_private_bytes(seed).sign(domain + payload)
    return f"{armour(payload)}.{armour(signature)}"


# ----------------------------------------------------------------------------- known answers

# RFC 8032, section 7.1, tests 1 to 3: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        (
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
        ),
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        ),
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        (
            "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
            "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
        ),
    ),
]


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_keys_and_signatures_are_those_of_rfc_8032(
    seed: str, public: str, message: str, signature: str
) -> None:
    assert strip(public_key(bytes.fromhex(seed))).hex() == public
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed))
    assert key.sign(bytes.fromhex(message)).hex() == signature


def test_a_permit_is_canonical_json_signed_under_its_own_domain() -> None:
    text = issue(SEED, PERMIT)
    payload = canonical(to_plain(PERMIT)).encode()
    assert text == signed(payload)
    assert (
        refusal(signed(payload, domain=b""))
        == "the permit was not signed by this node's controller"
    )


# ----------------------------------------------------------------------------- what is accepted


def test_a_permit_for_this_launch_is_returned_as_it_was_issued() -> None:
    assert checked(issue(SEED, PERMIT)) == PERMIT


def test_the_edges_of_time_are_inside() -> None:
    text = issue(SEED, replace(PERMIT, expires_at=NOW + MAX_AGE_S))
    assert checked(text, now=NOW + MAX_AGE_S)
    assert checked(text, now=NOW - MAX_SKEW_S)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"audience": "v1"}, "the permit was made for node v0, here is v1"),
        ({"audience": "v0,v1"}, "the permit was made for node v0, here is v0,v1"),
        ({"job_id": "x"}, "the permit was made for job 20270115-080000-a1b2c3, here is x"),
        ({"attempt": 3}, "the permit was made for attempt 2, here is 3"),
        ({"code_hash": "e" * 64}, "the permit was made for code cccccccccccc…, here is eeee"),
        ({"plan_hash": "e" * 64}, "the launch plan is not the one that was permitted"),
        ({"now": NOW + 63}, "the permit expired 3 s ago"),
        ({"now": NOW - 11}, "the permit will be issued in 11 s by this machine's clock"),
        ({"seen": {PERMIT.id}}, f"the permit {PERMIT.id} was used before"),
    ],
)  # fmt: skip
def test_a_permit_for_anything_else_is_refused_by_the_one_thing_that_is_wrong(
    changes: dict[str, Any], told: str
) -> None:
    assert refusal(issue(SEED, PERMIT), **changes).startswith(told)


def test_a_permit_of_another_controller_is_refused() -> None:
    told = "the permit was not signed by this node's controller"
    assert refusal(issue(OTHER_SEED, PERMIT)) == told
    assert refusal(issue(SEED, PERMIT), key=public_key(OTHER_SEED)) == told


@pytest.mark.parametrize("key", ["", "AAAA", "*" * 43, public_key(SEED) + "="])
def test_a_key_that_is_none_checks_nothing(key: str) -> None:
    assert "no Ed25519 key" in refusal(issue(SEED, PERMIT), key=key)


def test_no_permit_at_all_is_refused() -> None:
    for text in ("", "a", "a.b.c", "é.é"):
        assert refusal(text) == "the permit is missing or damaged"


# ----------------------------------------------------------------------------- issuing


@pytest.mark.parametrize("age_s", [MAX_AGE_S + 0.001, 0.0, -1.0, float("inf"), float("nan")])
def test_no_permit_is_issued_for_longer_than_two_minutes(age_s: float) -> None:
    with pytest.raises(InputError, match="120 s at most"):
        issue(SEED, replace(PERMIT, expires_at=NOW + age_s))


def test_a_permit_that_is_too_long_lived_is_refused_even_when_it_is_signed() -> None:
    for expires_at in (NOW + MAX_AGE_S + 1, NOW, float("inf")):
        plain = to_plain(replace(PERMIT, expires_at=expires_at))
        text = signed(canonical(plain).encode())
        assert checked_or_told(text)


def checked_or_told(text: str) -> str:
    told = refusal(text)
    assert "120 s at most" in told or "of another version" in told
    return told


@pytest.mark.parametrize("name", ["", "../x", "A" * 32, "0" * 31, "0" * 32 + "\n"])
def test_an_id_that_could_be_another_file_is_never_issued_nor_accepted(name: str) -> None:
    odd = replace(PERMIT, id=name)
    with pytest.raises(InputError, match="32 hexadecimal digits"):
        issue(SEED, odd)
    payload = canonical(to_plain(odd)).encode()
    assert "of another version" in refusal(signed(payload))


# ----------------------------------------------------------------------------- one text only


@pytest.mark.parametrize(
    "write",
    [
        lambda plain: json.dumps(plain, sort_keys=True),
        lambda plain: json.dumps(plain, separators=(",", ":")),
        lambda plain: canonical(plain | {"is_admin": True}),
        lambda plain: canonical({**plain, "attempt": 2.0}),
        lambda plain: canonical(plain) + "\n",
        lambda plain: '{"attempt":2,' + canonical(plain)[1:],
        lambda _plain: "[]",
        lambda _plain: "[" * 5000,
        lambda _plain: "\ud800".encode("utf-8", "surrogatepass").decode("latin-1"),
    ],
)  # fmt: skip
def test_even_a_signed_text_is_refused_when_it_is_not_the_canonical_one(
    write: Callable[[dict[str, Any]], str],
) -> None:
    text = signed(write(to_plain(PERMIT)).encode())
    assert refusal(text) == "the permit is of another version than this agent"


def test_the_same_bytes_in_another_armour_are_refused() -> None:
    text = issue(SEED, PERMIT)
    payload, signature = text.split(".")
    # The last character of 64 bytes stands for four bits; its two others could be anything.
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    last = alphabet[alphabet.index(signature[-1]) ^ 1]
    others = [
        f"{payload}=.{signature}",
        f"{payload}.{signature}==",
        f"{payload}.{signature[:-1]}{last}",
        f" {text}",
        f"{text}\n",
        f"{payload}.{signature}.",
        f"{payload[:8]}\n{payload[8:]}.{signature}",
        f"{payload}.{base64.b64encode(strip(signature)).decode()}",
    ]
    assert strip(f"{signature[:-1]}{last}") == strip(signature)
    for other in others:
        assert refusal(other) == "the permit is missing or damaged"


def test_a_signature_with_the_group_s_order_added_is_refused() -> None:
    payload, signature = issue(SEED, PERMIT).split(".")
    raw = strip(signature)
    scalar = int.from_bytes(raw[32:], "little") + ORDER
    other = f"{payload}.{armour(raw[:32] + scalar.to_bytes(32, 'little'))}"
    assert "not signed" in refusal(other)


def test_a_text_that_is_far_too_long_is_refused_unread() -> None:
    assert "is no permit" in refusal("A" * (MAX_TEXT_BYTES + 1))
    with pytest.raises(InputError, match="at most"):
        issue(SEED, replace(PERMIT, node="n" * MAX_TEXT_BYTES))


# ----------------------------------------------------------------------------- altered permits


class Forger:
    """Alters permits in every way that needs no seed but its own."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.permits = [self._permit() for _ in range(50)]
        self.texts = [issue(SEED, permit) for permit in self.permits]
        self.ways = [
            self.flip_a_bit_of_the_bytes,
            self.change_a_character,
            self.swap_characters,
            self.cut,
            self.repeat_a_part,
            self.change_a_field,
            self.sign_with_another_key,
            self.take_another_s_signature,
            self.swap_the_halves,
        ]

    def _permit(self) -> Permit:
        draw = self.random
        return replace(
            PERMIT,
            id=draw.randbytes(16).hex(),
            attempt=draw.randint(1, 9),
            code_hash=draw.randbytes(32).hex(),
            plan_hash=draw.randbytes(32).hex(),
            user=UserId(draw.choice(["ada", "bob", "漢字"])),
        )

    def forge(self) -> tuple[str, Permit]:
        """Return an altered text, and the permit that it was made of."""
        while True:
            index = self.random.randrange(len(self.texts))
            text = self.random.choice(self.ways)(self.texts[index], self.permits[index])
            if text not in self.texts:
                return text, self.permits[index]

    def flip_a_bit_of_the_bytes(self, text: str, _permit: Permit) -> str:
        parts = [bytearray(strip(part)) for part in text.split(".")]
        part = self.random.choice(parts)
        part[self.random.randrange(len(part))] ^= 1 << self.random.randrange(8)
        return ".".join(armour(bytes(part)) for part in parts)

    def change_a_character(self, text: str, _permit: Permit) -> str:
        at = self.random.randrange(len(text))
        return text[:at] + self.random.choice("AZaz09-_.=+/ \n é") + text[at + 1 :]

    def swap_characters(self, text: str, _permit: Permit) -> str:
        letters = list(text)
        one, other = (self.random.randrange(len(text)) for _ in range(2))
        letters[one], letters[other] = letters[other], letters[one]
        return "".join(letters)

    def cut(self, text: str, _permit: Permit) -> str:
        begin, end = sorted(self.random.randrange(len(text) + 1) for _ in range(2))
        return self.random.choice([text[:end], text[begin:], text[:begin] + text[end:]])

    def repeat_a_part(self, text: str, _permit: Permit) -> str:
        begin, end = sorted(self.random.randrange(len(text) + 1) for _ in range(2))
        return text[:end] + text[begin:]

    def change_a_field(self, text: str, permit: Permit) -> str:
        return self._changed(permit) + "." + text.split(".")[1]

    def sign_with_another_key(self, _text: str, permit: Permit) -> str:
        return issue(self.random.randbytes(32), permit)

    def take_another_s_signature(self, text: str, _permit: Permit) -> str:
        return text.partition(".")[0] + "." + self.random.choice(self.texts).split(".")[1]

    def swap_the_halves(self, text: str, permit: Permit) -> str:
        return self.random.choice([".".join(text.split(".")[::-1]), self._changed(permit) * 2])

    def _changed(self, permit: Permit) -> str:
        draw = self.random
        changes: dict[str, Any] = draw.choice([
            {"user": "root"},
            {"attempt": permit.attempt + 1},
            {"node": "v1"},
            {"expires_at": permit.expires_at + draw.random()},
            {"issued_at": permit.issued_at - draw.random()},
            {"id": draw.randbytes(16).hex()},
            {"code_hash": draw.randbytes(32).hex()},
            {"resources": Resources(gpu_milli=draw.randint(1, 9999))},
        ])  # fmt: skip
        changed = to_plain(replace(permit, **changes))
        return armour(canonical(changed).encode())


def count_accepted(attempts: int, seed: int) -> int:
    forger = Forger(seed)
    key = public_key(SEED)
    for text, permit in zip(forger.texts, forger.permits, strict=True):
        assert check_as_issued(text, permit, key) == permit
    accepted = 0
    for _ in range(attempts):
        text, permit = forger.forge()
        try:
            check_as_issued(text, permit, key)
        except DeniedError:
            continue
        accepted += 1
    return accepted


def check_as_issued(text: str, permit: Permit, key: str) -> Permit:
    return check(
        text,
        key,
        audience=permit.node,
        job_id=permit.job_id,
        attempt=permit.attempt,
        code_hash=permit.code_hash,
        plan_hash=permit.plan_hash,
        now=NOW + 1,
    )


def test_of_20_000_altered_permits_none_is_accepted() -> None:
    assert count_accepted(20_000, seed=5) == 0


@pytest.mark.slow
def test_of_100_000_altered_permits_none_is_accepted() -> None:
    assert count_accepted(100_000, seed=100) == 0
