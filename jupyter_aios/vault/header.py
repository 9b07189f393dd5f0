"""What a vault tells without a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_aios.vault.box import digest_of
from jupyter_aios.vault.format import KINDS

if TYPE_CHECKING:
    from jupyter_aios.vault.format import Layout, Slot


@dataclass(frozen=True)
class SlotInfo:
    """One way in: of which kind, since when."""

    id: str
    kind: str
    """passphrase, key file, keyring or recovery key."""
    created_at: float


@dataclass(frozen=True)
class VaultHeader:
    """What a vault tells without a key; nobody has vouched for it."""

    vault_id: str
    generation: int
    slots: tuple[SlotInfo, ...]
    size_bytes: int
    digest: str
    """SHA-256 of the file: with the generation, an `Anchor`."""


def describe(layout: Layout, data: bytes) -> VaultHeader:
    """Return the header of a file."""
    return VaultHeader(
        layout.vault_id.hex(),
        layout.generation,
        tuple(map(describe_slot, layout.slots)),
        len(data),
        digest_of(data),
    )


def describe_slot(slot: Slot) -> SlotInfo:
    """Return what anybody may know of a slot."""
    return SlotInfo(slot.id.hex(), KINDS[slot.kind], slot.created_at)
