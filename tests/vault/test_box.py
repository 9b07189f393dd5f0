"""Known answers of the primitives, called as the vault calls them."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from jupyter_aios.errors import VersionError
from jupyter_aios.vault import box
from jupyter_aios.vault.box import Cost


def test_argon2id_gives_the_answer_of_rfc_9106() -> None:
    # Section 5.3. The vault uses neither a secret nor associated data, hence the class itself.
    derived = Argon2id(
        salt=b"\2" * 16,
        length=32,
        iterations=3,
        lanes=4,
        memory_cost=32,
        ad=b"\4" * 12,
        secret=b"\3" * 8,
    ).derive(b"\1" * 32)
    assert derived.hex() == "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"


def test_a_passphrase_is_stretched_as_by_the_reference_implementation() -> None:
    # phc-winner-argon2, src/test.c: Argon2id, version 0x13.
    stretched = box.stretch(b"password", b"somesalt", Cost(memory_kib=65536, passes=2, lanes=1))
    assert stretched.hex() == "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"


@pytest.mark.parametrize(
    ("key", "salt", "info", "expected"),
    [
        pytest.param(
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            id="case 1",
        ),
        pytest.param(
            bytes(range(80)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
            "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
            "cc30c58179ec3e87c14c01d5c1f3434f1d87",
            id="case 2",
        ),
        pytest.param(
            b"\x0b" * 22,
            b"",
            b"",
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
            id="case 3",
        ),
    ],
)
def test_hkdf_gives_the_answers_of_rfc_5869(
    key: bytes, salt: bytes, info: bytes, expected: str
) -> None:
    assert box.expand(key, salt, info, len(expected) // 2).hex() == expected


@pytest.mark.parametrize(
    ("key", "content", "expected"),
    [
        (
            b"\x0b" * 20,
            b"Hi There",
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            b"\xaa" * 131,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
    ],
    ids=["case 1", "case 2", "case 6"],
)
def test_hmac_gives_the_answers_of_rfc_4231(key: bytes, content: bytes, expected: str) -> None:
    assert box.authenticate(key, content).hex() == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "530f8afbc74536b9a963b4f1c4cb738b"),
        (bytes(16), "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    ],
    ids=["case 13", "case 14"],
)
def test_aes_gcm_gives_the_answers_of_mcgrew_and_viega(content: bytes, expected: str) -> None:
    assert box.encrypt_once(bytes(32), content, b"").hex() == expected


def test_aes_gcm_covers_associated_data_as_mcgrew_and_viega_say() -> None:
    # Case 16. Its nonce is not zeros, hence the class itself.
    key = bytes.fromhex("feffe9928665731c6d6a8f9467308308") * 2
    content = bytes.fromhex(
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
        "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
    )
    context = bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2")
    sealed = AESGCM(key).encrypt(bytes.fromhex("cafebabefacedbaddecaf888"), content, context)
    assert sealed.hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
        "76fc6ece0f4e1768cddf8853bb2d551b"
    )


def test_a_box_opens_with_its_key_its_label_and_its_context_only() -> None:
    key = box.draw(32)
    sealed = box.seal(key, "record", b"value", b"here")
    assert box.unseal(key, "record", sealed, b"here") == b"value"
    assert box.unseal(box.draw(32), "record", sealed, b"here") is None
    assert box.unseal(key, "table", sealed, b"here") is None
    assert box.unseal(key, "record", sealed, b"there") is None


def test_no_two_boxes_are_made_with_the_same_key() -> None:
    key = box.draw(32)
    sealed = [box.seal(key, "record", b"value", b"") for _ in range(1000)]
    # The salt is what makes each box's key its own.
    assert len({each[: box.SALT_BYTES] for each in sealed}) == 1000


@pytest.mark.parametrize("size", range(box.OVERHEAD_BYTES))
def test_less_than_an_empty_box_does_not_open(size: int) -> None:
    assert box.unseal(bytes(32), "record", bytes(size), b"") is None


@pytest.mark.parametrize("version", ["42.0.8", "46.0.6", "45.0"])
def test_an_old_cryptography_is_refused_with_what_to_type(version: str) -> None:
    with pytest.raises(VersionError, match=f"{version} is installed") as caught:
        box.refuse_old_cryptography(version)
    assert caught.value.hint == 'pip install "cryptography>=46.0.7"'


@pytest.mark.parametrize("version", ["46.0.7", "46.1", "50.0.2.dev1"])
def test_a_new_cryptography_is_taken(version: str) -> None:
    box.refuse_old_cryptography(version)
