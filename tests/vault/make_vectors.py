"""Writes `vectors/`: one vault that opens, and a file per failure with the error it must give.

`python -m tests.vault.make_vectors`; the same bytes every time. `index.json` says of each file what
opens it and what is expected, so that another program that reads the format can be tested too.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.secrets import Secret, SecretClass, SecretInfo, Share
from jupyter_aios.vault import box
from jupyter_aios.vault.format import HEAD_BYTES, LEAST_COST, NO_COST, SLOT_BYTES, Layout, parse
from jupyter_aios.vault.generation import first_generation, seal_next
from jupyter_aios.vault.slots import KeyFile, Passphrase, make_slot
from jupyter_aios.vault.table import Record, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.vault.format import Slot
    from jupyter_aios.vault.generation import Generation

FOLDER = Path(__file__).parent / "vectors"
KEY = b"the key file of the test vectors\n"
PASSPHRASE = "the passphrase of the test vectors"
VAULT_ID = bytes(range(16))
ROOT = hashlib.sha256(b"root key of the test vectors").digest()
NOW = 1_700_000_000.25
CONTENTS = {"ann": {"HF_TOKEN": "hf_abcdefgh", "wandb": "0123456789"}, "ben": {"key": "x" * 300}}

SEAL_ERROR = "the vault was changed or damaged: its seal does not fit its contents"
WRONG_KEY = "this key does not open the vault"
TABLE_ERROR = "the vault's record table is not of this format"
CANONICAL = "the vault's record table is not in its canonical form"


@dataclass(frozen=True)
class Vector:
    """One file, what it is tried with, and what must be said."""

    name: str
    data: bytes
    error: str
    message: str
    key: str = "key file"
    """`key file`, `passphrase`, or `other key file`."""
    read: str = ""
    """OWNER/NAME of a secret whose value is asked for; the error may come only then."""


class Source:
    """Bytes that look drawn and are the same every time."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, size_bytes: int) -> bytes:
        self._count += 1
        return hashlib.shake_128(b"vectors %d" % self._count).digest(size_bytes)


class FixedKeyFile(KeyFile):
    """A key file without a file."""

    def material(self) -> bytes:
        return KEY


def opened() -> Generation:
    """Return the vault that all vectors are made of, in its second generation."""
    keys = (FixedKeyFile(Path("key")), Passphrase(Secret(PASSPHRASE), LEAST_COST))
    slots = tuple(make_slot(key, ROOT, VAULT_ID, NOW) for key in keys)
    _, generation = seal_next(first_generation(VAULT_ID, ROOT, slots))
    table = generation.table.with_system("audit", box.draw(32))
    for owner, secrets in CONTENTS.items():
        for name, value in secrets.items():
            info = SecretInfo(
                name, UserId(owner), SecretClass.INJECT, 1, NOW, NOW, len(value),
                shares=(Share("group:students"),),
            )  # fmt: skip
            table = table.with_value(info, Secret(value))
    return replace(generation, table=table)


def resealed(layout: Layout) -> bytes:
    """Return a file whose seal fits, whatever is in it."""
    body = layout.body()
    return body + box.authenticate(box.derive(ROOT, layout.vault_id, "seal"), body)


def with_table(
    state: Generation, change: Callable[[str], str], boxes: bytes | None = None
) -> bytes:
    """Return a sealed file whose record table is another text."""
    data, _ = seal_next(state)
    text, stored = state.table.encode()
    changed = change(text.decode()).encode()
    assert changed != text or boxes is not None
    table = box.seal(ROOT, "table", changed, VAULT_ID + struct.pack(">Q", 2))
    return resealed(replace(parse(data), table=table, records=stored if boxes is None else boxes))


def with_slot(layout: Layout, number: int, slot: Slot) -> Layout:
    """Return the layout with another slot of this number."""
    slots = list(layout.slots)
    slots[number] = slot
    return replace(layout, slots=tuple(slots))


def with_head(data: bytes, at: int, replacement: bytes) -> bytes:
    """Return the file with other bytes in its head."""
    return data[:at] + replacement + data[at + len(replacement) :]


def with_padded(state: Generation, padded: bytes) -> Generation:
    """Return the vault in which ann's HF_TOKEN is these padded bytes."""
    table: Table = state.table
    record = table.record(UserId("ann"), "HF_TOKEN")
    owner = table.owners[UserId("ann")]
    context = table._context(record.id, owner, record.info)  # noqa: SLF001 - no other way to it
    box_ = box.seal(owner.key, "record", padded, context)
    records = {**table.records, (UserId("ann"), "HF_TOKEN"): Record(record.id, record.info, box_)}
    return replace(state, table=replace(table, records=records))


def cut_off(data: bytes, layout: Layout) -> list[Vector]:
    """Return files that end too early, one per part, and files that end too late."""
    after_slots = HEAD_BYTES + len(layout.slots) * SLOT_BYTES
    after_table = after_slots + len(layout.table)
    parts = (
        ("head", 40, HEAD_BYTES),
        ("slot-table", HEAD_BYTES + 100, HEAD_BYTES + SLOT_BYTES - 80),
        ("record-table", after_slots + 7, after_table),
        ("records", after_table, len(data) - 32),
        ("seal", len(data) - 1, len(data)),
    )
    vectors = []
    for name, at, end in parts:
        shown = name.replace("-", " ")
        # Inside the slot's box: its fields were there.
        wanted = HEAD_BYTES + SLOT_BYTES if name == "slot-table" else end
        message = f"the vault's {shown} is cut off at byte {at}; it should end at byte {wanted}"
        vectors.append(Vector(f"cut-off-{name}", data[:at], "StorageError", message))
    empty = "the vault's head is cut off at byte 0; it should end at byte 10"
    more = f"3 bytes follow the vault's end at byte {len(data)}"
    return [
        *vectors,
        Vector("empty", b"", "StorageError", empty),
        Vector("too-long", data + b"abc", "StorageError", more),
    ]


def heads(data: bytes) -> list[Vector]:
    """Return files with a head that no vault has."""
    error = "StorageError"
    other = "this is no vault: its first 8 bytes are others"
    count = "the vault's head tells of {} slots, 1 to 8 are possible"
    lineage = "the vault's generation {} cannot have the predecessor it names"
    table = "the vault's head tells of a record table of 47 bytes, 48 is the least"
    newer = "the vault is of format 2, this version reads format 1"
    return [
        Vector("magic", with_head(data, 0, b"SQLite f"), error, other),
        Vector("line-ends", data.replace(b"\r\n", b"\n", 1), error, other),
        Vector("version", with_head(data, 8, b"\0\2"), "VersionError", newer),
        Vector("no-slots", with_head(data, 10, b"\0\0"), error, count.format(0)),
        Vector("nine-slots", with_head(data, 10, b"\0\x09"), error, count.format(9)),
        Vector("small-table", with_head(data, 12, struct.pack(">I", 47)), error, table),
        Vector("generation-0", with_head(data, 36, bytes(8)), error, lineage.format(0)),
        Vector(
            "first-with-predecessor",
            with_head(data, 36, struct.pack(">Q", 1)),
            error,
            lineage.format(1),
        ),
        Vector("no-predecessor", with_head(data, 44, bytes(32)), error, lineage.format(2)),
    ]


def slots(layout: Layout) -> list[Vector]:
    """Return files with slots that no vault has; their seals fit, for nobody gets as far."""
    error = "StorageError"
    of_file, of_person = layout.slots

    def person(**cost: int) -> bytes:
        changed = replace(of_person, cost=replace(of_person.cost, **cost))
        return resealed(with_slot(layout, 1, changed))

    def asks(found: int, what: str, limits: str) -> str:
        return f"the vault's slot 2 asks Argon2id for {found} {what}; {limits} are taken"

    memory, others = "19456 to 1048576", {"passes": "2 to 16", "lanes": "1 to 16"}
    vectors = [
        Vector("slot-kind", resealed(with_slot(layout, 0, replace(of_file, kind=9))), error,
               "the vault's slot 1 is of the unknown kind 9"),
        Vector("slot-time",
               resealed(with_slot(layout, 0, replace(of_file, created_at=float("nan")))), error,
               "the vault's slot 1 has no time at which it was made"),
        Vector("slot-twice", resealed(with_slot(layout, 1, replace(of_person, id=of_file.id))),
               error, "two of the vault's slots have the same id"),
        Vector("slot-cost-of-a-file",
               resealed(with_slot(layout, 0, replace(of_file, cost=replace(NO_COST, lanes=1)))),
               error, "the vault's slot 1 (key file) has parameters of Argon2id"),
        Vector("kdf-little-memory", person(memory_kib=1024), error,
               asks(1024, "KiB of memory", memory)),
        Vector("kdf-much-memory", person(memory_kib=2**32 - 1), error,
               asks(2**32 - 1, "KiB of memory", memory)),
    ]  # fmt: skip
    for what, limits in others.items():
        least, most = (int(each) for each in limits.split(" to "))
        for found in (least - 1, most + 1):
            data = person(**{what: found})
            name = f"kdf-{'few' if found < least else 'many'}-{what}"
            vectors.append(Vector(name, data, error, asks(found, what, limits)))
    return vectors


def seals(state: Generation, data: bytes, layout: Layout) -> list[Vector]:
    """Return files in which legal parts were exchanged, so that only keys can tell."""
    error = "StorageError"
    of_file, of_person = layout.slots
    dearer = replace(of_person, cost=replace(of_person.cost, memory_kib=LEAST_COST.memory_kib + 8))
    downgraded = with_slot(layout, 1, dearer).body() + data[-32:]
    other_id = replace(layout, vault_id=bytes(16))
    stored = [record.box for _, record in sorted(state.table.records.items())]
    swapped = b"".join([stored[1], stored[0], *stored[2:]])
    older, _ = seal_next(replace(state, table=Table(VAULT_ID)))
    return [
        Vector("seal-flipped", data[:-1] + bytes([data[-1] ^ 1]), error, SEAL_ERROR),
        Vector("seal-of-another", data[:-32] + older[-32:], error, SEAL_ERROR),
        Vector("kdf-changed", downgraded, error, SEAL_ERROR),
        Vector("kdf-changed-own", downgraded, "DeniedError", WRONG_KEY, key="passphrase"),
        Vector("slot-left-out", replace(layout, slots=(of_file,)).body() + data[-32:], error,
               SEAL_ERROR),
        Vector("slots-swapped", replace(layout, slots=(of_person, of_file)).body() + data[-32:],
               error, SEAL_ERROR),
        Vector("generation-changed", with_head(data, 36, struct.pack(">Q", 9)), error, SEAL_ERROR),
        Vector("predecessor-changed", with_head(data, 44, b"\1" * 32), error, SEAL_ERROR),
        Vector("vault-id", other_id.body() + data[-32:], "DeniedError", WRONG_KEY),
        Vector("wrong-key", data, "DeniedError", WRONG_KEY, key="other key file"),
        Vector("records-swapped", replace(layout, records=swapped).body() + data[-32:], error,
               SEAL_ERROR),
        Vector("table-of-another-generation",
               resealed(replace(layout, generation=3)), error,
               "the vault's record table does not open"),
    ]  # fmt: skip


def tables(state: Generation) -> list[Vector]:
    """Return sealed files with a table or a record that no vault writes."""
    error = "StorageError"
    stored = [record.box for _, record in sorted(state.table.records.items())]
    swapped = b"".join([stored[1], stored[0], *stored[2:]])
    length = len(b"".join(stored))
    token = "the vault's record 'HF_TOKEN' of 'ann' does not open"

    def replaced(old: str, new: str) -> bytes:
        return with_table(state, lambda text: text.replace(old, new, 1))

    def padded(content: bytes) -> bytes:
        return seal_next(with_padded(state, content))[0]

    value = CONTENTS["ann"]["HF_TOKEN"].encode()
    front = struct.pack(">I", len(value)) + value
    return [
        Vector("table-no-json", with_table(state, lambda text: text[1:]), error, TABLE_ERROR),
        Vector("table-a-list", with_table(state, lambda _: "[]"), error, TABLE_ERROR),
        Vector("table-spaces", replaced(",", ", "), error, CANONICAL),
        Vector("table-more-fields", replaced('"system":', '"more":1,"system":'), error, CANONICAL),
        Vector("table-key-twice", replaced('"system":', '"system":{},"system":'), error, CANONICAL),
        Vector("table-short-key", replaced('"key":"', '"key":"00'), error, TABLE_ERROR),
        Vector("table-class", replaced('"class":"inject"', '"class":"give"'), error, TABLE_ERROR),
        Vector("table-version-0", replaced('"version":1', '"version":0'), error, TABLE_ERROR),
        Vector("table-version-true", replaced('"version":1', '"version":true'), error, TABLE_ERROR),
        Vector("table-infinite-time", replaced('"changed_at":1700000000.25', '"changed_at":1e999'),
               error, TABLE_ERROR),
        Vector("table-owner", replaced('"owner":"ben"', '"owner":"bea"'), error,
               "the vault's record 'key' has the unknown owner 'bea'"),
        Vector("table-order", with_table(state, _reversed), error, CANONICAL),
        Vector("records-too-many", with_table(state, str, b"".join(stored) + bytes(8)), error,
               f"the vault's records have {length + 8} bytes, the table tells of {length}"),
        Vector("records-too-few", with_table(state, str, b"".join(stored)[:-8]), error,
               f"the vault's records have {length - 8} bytes, the table tells of {length}"),
        Vector("record-of-another-name", with_table(state, str, swapped), error, token,
               read="ann/HF_TOKEN"),
        Vector("record-of-another-version", replaced('"version":1', '"version":2'), error, token,
               read="ann/HF_TOKEN"),
        Vector("record-of-another-class", replaced('"class":"inject"', '"class":"broker"'), error,
               token, read="ann/HF_TOKEN"),
        Vector("record-size", replaced('"size":11', '"size":10'), error, token,
               read="ann/HF_TOKEN"),
        Vector("padding-not-zeros", padded((front + bytes(256))[:255] + b"\1"), error, token,
               read="ann/HF_TOKEN"),
        Vector("padding-too-long", padded((front + bytes(512))[:512]), error, token,
               read="ann/HF_TOKEN"),
        Vector("padding-too-short", padded(front), error, token, read="ann/HF_TOKEN"),
        Vector("value-longer-than-its-box", padded(struct.pack(">I", 2**32 - 1) + bytes(252)),
               error, token, read="ann/HF_TOKEN"),
    ]  # fmt: skip


def _reversed(text: str) -> str:
    plain = json.loads(text)
    plain["records"].reverse()
    return json.dumps(plain, sort_keys=True, separators=(",", ":"))


def vectors() -> list[Vector]:
    """Return all of them; the first one opens."""
    with mock.patch("os.urandom", Source()):
        state = opened()
        data, _ = seal_next(state)
        # A line end that a careless copy would change is in the magic; anywhere else it is chance.
        layout = parse(data)
        return [
            Vector("good", data, "", ""),
            Vector("good-by-passphrase", data, "", "", key="passphrase"),
            *cut_off(data, layout),
            *heads(data),
            *slots(layout),
            *seals(state, data, layout),
            *tables(state),
        ]


def write(folder: Path) -> None:
    """Write the files and their index."""
    folder.mkdir(exist_ok=True)
    index = []
    for vector in vectors():
        (folder / f"{vector.name}.vault").write_bytes(vector.data)
        told = {key: value for key, value in vars(vector).items() if value and key != "data"}
        index.append(told)
    plain = {"key file": KEY.decode(), "passphrase": PASSPHRASE, "good": CONTENTS, "files": index}
    (folder / "index.json").write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    write(FOLDER)
