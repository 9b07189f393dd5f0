"""docs/vault-format.md is enough: this reader was written from it and shares no code."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import struct
from pathlib import Path

import pytest
from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from jupyter_aios.vault.format import HEAD_BYTES, MAGIC, SLOT_BYTES
from tests.vault.make_vectors import FOLDER, KEY, PASSPHRASE

PAGE = (Path(__file__).parents[2] / "docs" / "vault-format.md").read_text(encoding="utf-8")


def hkdf(key: bytes, salt: bytes, label: str) -> bytes:
    extracted = hmac.digest(salt, key, "sha256")
    return hmac.digest(extracted, b"jupyter_aios vault 1 " + label.encode() + b"\1", "sha256")


def open_box(key: bytes, label: str, box: bytes, context: bytes) -> bytes:
    return AESGCM(hkdf(key, box[:32], label)).decrypt(bytes(12), box[32:], context)


def slot_key(kind: int, slot: bytes) -> bytes:
    memory_kib, passes, lanes = struct.unpack(">III", slot[9:21])
    salt = slot[29:61]
    if kind == 2:
        return hkdf(KEY, salt, "slot")
    return hash_secret_raw(PASSPHRASE.encode(), salt, passes, memory_kib, lanes, 32, Type.ID)


def read(data: bytes, kind: int) -> dict[str, dict[str, str]]:
    """Return the values of a vault, by the first slot of this kind."""
    head = struct.unpack(">8sHHII16sQ32s", data[:76])
    magic, version, slot_count, table_bytes, records_bytes, vault_id, generation, _ = head
    assert (magic, version) == (bytes.fromhex("8961696f730d0a1a"), 1)
    slots = [data[76 + 141 * number : 76 + 141 * (number + 1)] for number in range(slot_count)]
    slot = next(each for each in slots if each[8] == kind)
    root = open_box(slot_key(kind, slot), "root", slot[61:], vault_id + slot[:61])
    seal = hmac.digest(hkdf(root, vault_id, "seal"), data[:-32], "sha256")
    assert seal == data[-32:]
    at = 76 + 141 * slot_count
    assert at + table_bytes + records_bytes + 32 == len(data)
    text = open_box(
        root, "table", data[at : at + table_bytes], vault_id + generation.to_bytes(8, "big")
    )
    table = json.loads(text)
    at += table_bytes
    found: dict[str, dict[str, str]] = {}
    for record in table["records"]:
        owner = table["owners"][record["owner"]]
        context = (
            vault_id
            + bytes.fromhex(record["id"])
            + bytes.fromhex(owner["id"])
            + hashlib.sha256(record["name"].encode()).digest()
            + record["version"].to_bytes(8, "big")
            + bytes([{"broker": 1, "derived": 2, "inject": 3}[record["class"]]])
        )
        box = data[at : at + record["stored"]]
        at += record["stored"]
        padded = open_box(bytes.fromhex(owner["key"]), "record", box, context)
        length = int.from_bytes(padded[:4], "big")
        assert len(padded) % 256 == 0
        found.setdefault(record["owner"], {})[record["name"]] = padded[4 : 4 + length].decode()
    return found


@pytest.mark.parametrize("kind", [1, 2], ids=["passphrase", "key file"])
def test_a_reader_that_was_written_from_the_page_reads_a_vault(kind: int) -> None:
    expected = json.loads((FOLDER / "index.json").read_text())["good"]
    assert read((FOLDER / "good.vault").read_bytes(), kind) == expected


def test_the_page_s_table_has_the_sizes_of_the_format() -> None:
    part, sizes = "", {"head": 0, "slot table": 0}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or len(cells) != 4:
            continue
        if named := re.match(r"\*\*(.+)\*\*", cells[0]):
            part = named[1]
        if part in sizes and cells[2].isdecimal():
            sizes[part] += int(cells[2])
    assert sizes == {"head": HEAD_BYTES, "slot table": SLOT_BYTES}
    assert f"`{MAGIC.hex(' ')}`" in PAGE
