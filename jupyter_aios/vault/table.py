"""Who has which secrets: the record table of one generation, decrypted.

A table never changes; `with_…` and `without_…` return another one, so that a commit that fails has
changed nothing.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Any

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.secrets import Secret, SecretClass, SecretInfo, Share
from jupyter_aios.errors import UnknownNameError
from jupyter_aios.vault.box import KEY_BYTES, draw, seal, unseal
from jupyter_aios.vault.format import damaged

ID_BYTES = 16
BLOCK_BYTES = 256
_CLASSES = {SecretClass.BROKER: 1, SecretClass.DERIVED: 2, SecretClass.INJECT: 3}
_CONTEXT = struct.Struct(">16s16s16s32sQB")
_LENGTH = struct.Struct(">I")
_FIELDS: dict[str, type] = {
    "name": str,
    "owner": str,
    "class": str,
    "version": int,
    "created_at": float,
    "changed_at": float,
    "size": int,
    "public": str,
    "target": str,
    "stored": int,
}
_TYPES = tuple(_FIELDS.values())
_fields_of = itemgetter(*_FIELDS)


@dataclass(frozen=True)
class Owner:
    """Whose secrets one data key opens; without it they are noise."""

    id: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Record:
    """One secret: what is known of it, and its value in a box."""

    id: bytes
    info: SecretInfo
    box: bytes = field(repr=False)


@dataclass(frozen=True)
class Table:
    """All owners, records and system keys of one vault."""

    vault_id: bytes
    owners: Mapping[UserId, Owner] = field(default_factory=dict)
    records: Mapping[tuple[UserId, str], Record] = field(default_factory=dict)
    system: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def record(self, owner: UserId, name: str) -> Record:
        """Return the owner's record of this name.

        Raises:
            UnknownNameError: there is none; the owner's other names are offered.

        """
        record = self.records.get((owner, name))
        if record is None:
            known = [each for whose, each in self.records if whose == owner]
            raise UnknownNameError.among("secret", name, known)
        return record

    def with_value(self, info: SecretInfo, value: Secret) -> Table:
        """Return a table in which this secret has this value."""
        owner = self.owners.get(info.owner) or Owner(draw(ID_BYTES), draw(KEY_BYTES))
        old = self.records.get((info.owner, info.name))
        record_id = old.id if old else draw(ID_BYTES)
        context = self._context(record_id, owner, info)
        box = seal(owner.key, "record", _pad(value.reveal()), context)
        return replace(
            self,
            owners={**self.owners, info.owner: owner},
            records={**self.records, (info.owner, info.name): Record(record_id, info, box)},
        )

    def with_info(self, info: SecretInfo) -> Table:
        """Return a table in which something else is known of a secret; its value stays."""
        record = replace(self.record(info.owner, info.name), info=info)
        return replace(self, records={**self.records, (info.owner, info.name): record})

    def with_system(self, label: str, key: bytes) -> Table:
        """Return a table with one more system key."""
        return replace(self, system={**self.system, label: key})

    def without(self, owner: UserId, name: str) -> Table:
        """Return a table without this secret."""
        self.record(owner, name)
        records = {key: each for key, each in self.records.items() if key != (owner, name)}
        return replace(self, records=records)

    def without_owner(self, owner: UserId) -> Table:
        """Return a table without the owner's data key, and without what only it can open."""
        owners = {whose: each for whose, each in self.owners.items() if whose != owner}
        records = {key: each for key, each in self.records.items() if key[0] != owner}
        return replace(self, owners=owners, records=records)

    def rekeyed(self) -> Table:
        """Return a table with other data keys; every value is encrypted anew."""
        table = replace(self, owners={}, records={})
        for record in self.records.values():
            table = table.with_value(record.info, self.reveal(record))
        return table

    def reveal(self, record: Record) -> Secret:
        """Return a record's value.

        Raises:
            StorageError: its box does not open; nothing but a bug writes such a file.

        """
        info = record.info
        owner = self.owners[info.owner]
        padded = unseal(owner.key, "record", record.box, self._context(record.id, owner, info))
        value = None if padded is None else _unpad(padded)
        if value is None or len(value) != info.size_bytes:
            raise damaged(f"the vault's record {info.name!r} of {info.owner!r} does not open")
        return Secret(value)

    def _context(self, record_id: bytes, owner: Owner, info: SecretInfo) -> bytes:
        name_hash = hashlib.sha256(info.name.encode()).digest()
        kind = _CLASSES[info.kind]
        return _CONTEXT.pack(self.vault_id, record_id, owner.id, name_hash, info.version, kind)

    def encode(self) -> tuple[bytes, bytes]:
        """Return the table's text, and the boxes of all records."""
        ordered = [self.records[key] for key in sorted(self.records)]
        plain = {
            "owners": {
                name: {"id": owner.id.hex(), "key": owner.key.hex()}
                for name, owner in self.owners.items()
            },
            "records": [_plain_record(record) for record in ordered],
            "system": {label: key.hex() for label, key in self.system.items()},
        }
        text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return text.encode(), b"".join(record.box for record in ordered)


def decode_table(vault_id: bytes, text: bytes, boxes: bytes) -> Table:
    """Return the table that `Table.encode` made these of.

    Raises:
        StorageError: it is not exactly what this version writes.

    """
    try:
        table = _read_table(vault_id, json.loads(text), boxes)
        is_canonical = table.encode() == (text, boxes)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged("the vault's record table is not of this format") from error
    if not is_canonical:
        raise damaged("the vault's record table is not in its canonical form")
    return table


def _read_table(vault_id: bytes, plain: dict[str, Any], boxes: bytes) -> Table:
    owners = {
        UserId(name): Owner(_unhex(each["id"], ID_BYTES), _unhex(each["key"], KEY_BYTES))
        for name, each in plain["owners"].items()
    }
    records = {}
    at = 0
    for each in plain["records"]:
        info = _read_info(each)
        if info.owner not in owners:
            raise damaged(f"the vault's record {info.name!r} has the unknown owner {info.owner!r}")
        box = boxes[at : at + each["stored"]]
        at += each["stored"]
        records[info.owner, info.name] = Record(_unhex(each["id"], ID_BYTES), info, box)
    if at != len(boxes):
        raise damaged(f"the vault's records have {len(boxes)} bytes, the table tells of {at}")
    system = {label: _unhex(key, KEY_BYTES) for label, key in plain["system"].items()}
    return Table(vault_id, owners, records, system)


def _plain_record(record: Record) -> dict[str, Any]:
    info = record.info
    return {
        "id": record.id.hex(),
        "owner": info.owner,
        "name": info.name,
        "class": info.kind.value,
        "version": info.version,
        "created_at": float(info.created_at),
        "changed_at": float(info.changed_at),
        "size": info.size_bytes,
        "stored": len(record.box),
        "public": info.public,
        "target": info.target,
        "shares": [[share.to, share.right] for share in info.shares],
    }


def _read_info(plain: dict[str, Any]) -> SecretInfo:
    values = _fields_of(plain)
    # Exactly, since true is no version.
    if tuple(map(type, values)) != _TYPES:
        raise TypeError("a field of a record is of another type")
    name, owner, kind, version, created_at, changed_at, size_bytes, public, target, _ = values
    if version < 1:
        raise ValueError("versions begin at 1")
    return SecretInfo(
        name=name,
        owner=UserId(owner),
        kind=SecretClass(kind),
        version=version,
        created_at=created_at,
        changed_at=changed_at,
        size_bytes=size_bytes,
        shares=tuple(Share(to, right) for to, right in plain["shares"]),
        public=public,
        target=target,
    )


def _unhex(text: str, size_bytes: int) -> bytes:
    raw = bytes.fromhex(text)
    if len(raw) != size_bytes:
        raise ValueError(f"{size_bytes} bytes wanted, {len(raw)} found")
    return raw


def _pad(value: bytes) -> bytes:
    content = _LENGTH.pack(len(value)) + value
    return content + bytes(-len(content) % BLOCK_BYTES)


def _unpad(padded: bytes) -> bytes | None:
    if len(padded) < _LENGTH.size:
        return None
    (size_bytes,) = _LENGTH.unpack_from(padded)
    value = padded[_LENGTH.size : _LENGTH.size + size_bytes]
    return value if _pad(value) == padded else None
