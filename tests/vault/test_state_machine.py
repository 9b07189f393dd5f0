"""The vault against a dictionary, whatever is done to both in whatever order."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from jupyter_aios.core.entities import UserId
from jupyter_aios.core.secrets import Secret, SecretClass, Share
from jupyter_aios.errors import DeniedError, InputError, StateError, UnknownNameError
from jupyter_aios.vault import Anchor, KeyFile, RecoveryKey, Vault
from jupyter_aios.vault.format import MAX_SLOTS
from tests.vault.disks import UnsyncedDisk

OWNERS = st.sampled_from([UserId("ann"), UserId("ben"), UserId("é")])
NAMES = st.sampled_from(["A", "B", "C"])
VALUES = st.one_of(st.binary(max_size=300), st.binary(min_size=250, max_size=260))
SHARES = st.sampled_from([(), (Share("user:ben"),), (Share("group:g", "read"), Share("user:x"))])
DISK = UnsyncedDisk()


@dataclass(frozen=True)
class Expected:
    """What a secret of the dictionary is."""

    value: bytes
    kind: SecretClass
    version: int = 1
    shares: tuple[Share, ...] = ()


class VaultAgainstDictionary(RuleBasedStateMachine):
    """Every rule does the same to both; after each, both hold the same."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="aios-vault-"))
        self.path = self.folder / "vault"
        self.now = 1.0
        self.model: dict[tuple[UserId, str], Expected] = {}
        self.system: dict[str, bytes] = {}
        self.gone: list[RecoveryKey] = []
        # Not KeyFile.make: it waits for the disk, once per example.
        key = KeyFile(self.folder / "key")
        key.path.touch(0o600)
        key.path.write_bytes(bytes(32))
        self.vault = Vault.create(self.path, [key], now=self.now, disk=DISK)
        self.anchors = [self.vault.anchor]
        self.vault.on_commit = self.anchors.append
        self.slots: dict[str, RecoveryKey | KeyFile] = {self.vault.header.slots[0].id: key}

    @rule(owner=OWNERS, name=NAMES, value=VALUES, kind=st.sampled_from(SecretClass))
    def set_secret(self, owner: UserId, name: str, value: bytes, kind: SecretClass) -> None:
        self.now += 1
        info = self.vault.set(owner, name, Secret(value), kind, now=self.now)
        old = self.model.get((owner, name))
        new = Expected(value, kind)
        if old:
            new = replace(new, version=old.version + 1, shares=old.shares)
        self.model[owner, name] = new
        assert (info.version, info.changed_at) == (new.version, self.now)

    @rule(owner=OWNERS, name=NAMES, shares=SHARES)
    def share(self, owner: UserId, name: str, shares: tuple[Share, ...]) -> None:
        if (owner, name) not in self.model:
            with pytest.raises(UnknownNameError):
                self.vault.share(owner, name, shares, now=self.now)
            return
        self.vault.share(owner, name, shares, now=self.now)
        self.model[owner, name] = replace(self.model[owner, name], shares=shares)

    @rule(owner=OWNERS, name=NAMES)
    def remove(self, owner: UserId, name: str) -> None:
        if self.model.pop((owner, name), None) is None:
            with pytest.raises(UnknownNameError):
                self.vault.remove(owner, name)
            return
        self.vault.remove(owner, name)

    @rule(owner=OWNERS)
    def forget(self, owner: UserId) -> None:
        self.vault.forget_owner(owner)
        self.model = {key: each for key, each in self.model.items() if key[0] != owner}

    @rule(label=st.sampled_from(["audit", "permits"]))
    def system_key(self, label: str) -> None:
        assert self.system.setdefault(label, self.vault.key(label)) == self.vault.key(label)

    @rule()
    def add_slot(self) -> None:
        key = RecoveryKey.make()
        if len(self.slots) == MAX_SLOTS:
            with pytest.raises(InputError):
                self.vault.add_slot(key, now=self.now)
            return
        self.slots[self.vault.add_slot(key, now=self.now).id] = key

    @rule(data=st.data())
    def remove_slot(self, data: st.DataObject) -> None:
        slot = data.draw(st.sampled_from(sorted(self.slots)))
        if len(self.slots) == 1:
            with pytest.raises(StateError):
                self.vault.remove_slot(slot)
            return
        self.vault.remove_slot(slot)
        self._lose(self.slots.pop(slot))

    @rule()
    def rotate(self) -> None:
        key = RecoveryKey.make()
        self.vault.rotate_root([key], now=self.now)
        for old in self.slots.values():
            self._lose(old)
        self.slots = {self.vault.header.slots[0].id: key}

    @rule(data=st.data(), with_anchor=st.booleans())
    def reopen(self, data: st.DataObject, with_anchor: bool) -> None:  # noqa: FBT001
        key = self.slots[data.draw(st.sampled_from(sorted(self.slots)))]
        self.vault.close()
        anchor = self.anchors[-1] if with_anchor else None
        self.vault = Vault.open(self.path, key, anchor=anchor, disk=DISK)
        self.vault.on_commit = self.anchors.append

    @rule()
    def reopen_with_a_key_that_was_taken_away(self) -> None:
        if not self.gone:
            return
        self.vault.close()
        with pytest.raises(DeniedError):
            Vault.open(self.path, self.gone[-1], disk=DISK)
        key = next(iter(self.slots.values()))
        self.vault = Vault.open(self.path, key, disk=DISK)
        self.vault.on_commit = self.anchors.append

    def _lose(self, key: RecoveryKey | KeyFile) -> None:
        if isinstance(key, RecoveryKey):
            self.gone.append(key)

    @invariant()
    def both_hold_the_same(self) -> None:
        found = {
            (info.owner, info.name): Expected(
                self.vault.get(info.owner, info.name).reveal(),
                info.kind,
                info.version,
                info.shares,
            )
            for info in self.vault.list()
        }
        assert found == self.model
        assert {slot.id for slot in self.vault.header.slots} == set(self.slots)

    @invariant()
    def the_last_anchor_is_the_file_s(self) -> None:
        header = Vault.inspect(self.path)
        assert self.anchors[-1] == self.vault.anchor == Anchor(header.generation, header.digest)
        generations = [anchor.generation for anchor in self.anchors]
        assert generations == list(range(1, len(generations) + 1))

    def teardown(self) -> None:
        self.vault.close()
        shutil.rmtree(self.folder)


def test_a_vault_is_a_dictionary() -> None:
    run_state_machine_as_test(
        VaultAgainstDictionary,
        settings=settings(
            max_examples=100,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_vault_is_a_dictionary_for_long() -> None:
    run_state_machine_as_test(
        VaultAgainstDictionary,
        settings=settings(
            max_examples=2000,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
