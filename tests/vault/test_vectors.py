from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.core.entities import UserId
from jupyter_aios.errors import AiosError
from jupyter_aios.vault import KeyFile, Vault
from jupyter_aios.vault.format import RESTORE
from tests.vault.make_vectors import FOLDER, write
from tests.vault.safes import passphrase, values

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.vault import SlotKey

INDEX = json.loads((FOLDER / "index.json").read_text())
BAD = [each for each in INDEX["files"] if "error" in each]
GOOD = [each for each in INDEX["files"] if "error" not in each]


def key_of(vector: dict[str, Any], folder: Path) -> SlotKey:
    if vector["key"] == "passphrase":
        return passphrase(INDEX["passphrase"])
    path = folder / "key"
    path.touch(0o600)
    path.write_text(INDEX["key file"] if vector["key"] == "key file" else "k" * 32)
    return KeyFile(path)


def open_copy(vector: dict[str, Any], folder: Path) -> Vault:
    path = folder / "vault"
    path.write_bytes((FOLDER / f"{vector['name']}.vault").read_bytes())
    return Vault.open(path, key_of(vector, folder))


@pytest.mark.parametrize("vector", BAD, ids=[each["name"] for each in BAD])
def test_a_failure_of_the_format_gives_its_own_error(
    vector: dict[str, Any], tmp_path: Path
) -> None:
    def use() -> None:
        vault = open_copy(vector, tmp_path)
        try:
            if "read" in vector:
                owner, _, name = vector["read"].partition("/")
                vault.get(UserId(owner), name)
        finally:
            vault.close()

    with pytest.raises(AiosError) as caught:
        use()
    found = (type(caught.value).__name__, caught.value.message)
    assert found == (vector["error"], vector["message"])
    assert caught.value.hint
    if vector["error"] == "StorageError":
        assert caught.value.hint == RESTORE
    # Whatever was wrong: the file is as it was, and nobody holds its lock.
    assert (tmp_path / "vault").read_bytes() == (FOLDER / f"{vector['name']}.vault").read_bytes()


@pytest.mark.parametrize("vector", GOOD, ids=[each["name"] for each in GOOD])
def test_a_vault_of_this_format_opens_for_good(vector: dict[str, Any], tmp_path: Path) -> None:
    vault = open_copy(vector, tmp_path)
    expected = {
        (owner, name): value.encode()
        for owner, secrets in INDEX["good"].items()
        for name, value in secrets.items()
    }
    assert values(vault) == expected
    vault.close()


def test_the_vectors_are_what_their_script_writes(tmp_path: Path) -> None:
    write(tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in FOLDER.iterdir()}
