"""Milliseconds to open a vault, to get a secret and to set one, with 100 secrets in it.

The peer is the encrypted file of keyrings.alt, which derives a key from the passphrase for every
value where ours derives one at opening. Three rows per verb: with Argon2id at our cost in both (the
same price of a guess), as it comes (PBKDF2, 1,000 rounds), and with no derivation at all in the
peer, so that what is left of it is its file. What the peer does not do: it authenticates nothing,
writes its file in place, and does not wait for the disk. What the last costs us is printed.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._measure import Report, alternate, arguments
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.secrets import Secret, SecretClass
from jupyter_aios.vault import Passphrase, Vault
from jupyter_aios.vault.box import Cost, stretch
from jupyter_aios.vault.disk import Disk

if TYPE_CHECKING:
    from collections.abc import Callable

SECRETS = 100
PASSPHRASE = "correct horse battery staple"  # noqa: S105 - of a vault that is gone after the run
VALUE = "hf_" + "x" * 37
OWNER = UserId("ann")


class UnsyncedDisk(Disk):
    """A disk that is not waited for, to tell what waiting costs."""

    def fsync(self, descriptor: int) -> None:
        """Do nothing."""

    def fsync_folder(self, folder: Path) -> None:
        """Do nothing."""


def peer_at(path: Path, derive: Callable[[bytes], bytes] | None) -> Any:  # noqa: ANN401 - untyped package
    """Return an unlocked keyring file; `derive` (salt → key) replaces its key derivation."""
    # Published without types.
    from keyrings.alt.file import EncryptedKeyring  # type: ignore[import-untyped]

    class Peer(EncryptedKeyring):  # type: ignore[misc]
        file_path = str(path)

        def _create_cipher(self, password: str, salt: bytes, iv: bytes) -> Any:  # noqa: ANN401 - as above
            if derive is None:
                return super()._create_cipher(password, salt, iv)
            return self.AES.new(derive(salt), self.AES.MODE_CFB, iv)

    peer = Peer()
    peer.keyring_key = PASSPHRASE
    return peer


def filled_peer(path: Path, derive: Callable[[bytes], bytes] | None) -> Any:  # noqa: ANN401 - as above
    """Return a keyring file of 100 secrets, and the reference that its unlocking checks."""
    # What is filled in costs nothing to derive; what is measured is written by the measured one.
    peer = peer_at(path, _hash)
    for number in range(SECRETS):
        peer.set_password("jupyter_aios", f"SECRET{number}", VALUE)
    peer = peer_at(path, derive)
    peer.set_password("keyring-setting", "password reference", "password reference value")
    peer.set_password("jupyter_aios", "SECRET0", VALUE)
    return peer


def filled_vault(folder: Path, disk: Disk) -> Path:
    """Return a vault of 100 secrets with the default cost."""
    path = folder / "vault"
    vault = Vault.create(path, [Passphrase(Secret(PASSPHRASE))], now=time.time(), disk=disk)
    for number in range(SECRETS):
        set_ours(vault, f"SECRET{number}")
    vault.close()
    return path


def set_ours(vault: Vault, name: str) -> None:
    """Set one secret."""
    vault.set(OWNER, name, Secret(VALUE), SecretClass.INJECT, now=time.time())


def open_ours(path: Path) -> None:
    """Open and close."""
    Vault.open(path, Passphrase(Secret(PASSPHRASE))).close()


def open_peer(peer: Any) -> None:  # noqa: ANN401 - untyped package
    """Do what its unlocking does once the passphrase was typed."""
    found = peer.get_password("keyring-setting", "password reference")
    assert found == "password reference value"


def get_ours(vault: Vault) -> None:
    """Get one secret."""
    assert vault.get(OWNER, "SECRET0").reveal() == VALUE.encode()


def get_peer(peer: Any) -> None:  # noqa: ANN401 - untyped package
    """Get one secret."""
    assert peer.get_password("jupyter_aios", "SECRET0") == VALUE


def milliseconds(act: Callable[[], object], repeat: int = 1) -> float:
    """Return how long one of `repeat` takes."""
    begun = time.perf_counter()
    for _ in range(repeat):
        act()
    return (time.perf_counter() - begun) * 1000 / repeat


def compare(report: Report, folder: Path, *, is_quick: bool) -> dict[str, Any]:
    """Measure all rows; return the worst ratio at the same cost."""
    few, many = (4, 15) if is_quick else (12, 60)
    path = filled_vault(folder, UnsyncedDisk())
    at_our_cost = filled_peer(folder / "argon2id.cfg", _argon2id)
    as_it_comes = filled_peer(folder / "pbkdf2.cfg", None)
    without = filled_peer(folder / "none.cfg", _hash)
    same = []

    same.append(report.pair("open, same KDF", *alternate(
        few, lambda: milliseconds(lambda: open_ours(path)),
        lambda: milliseconds(lambda: open_peer(at_our_cost)))))  # fmt: skip
    report.extra["open_as_it_comes"] = report.pair("open, as it comes", *alternate(
        few, lambda: milliseconds(lambda: open_ours(path)),
        lambda: milliseconds(lambda: open_peer(as_it_comes))))  # fmt: skip

    vault = Vault.open(path, Passphrase(Secret(PASSPHRASE)))
    verbs: list[tuple[str, Callable[[], object], Callable[[Any], object], int]] = [
        ("get", lambda: get_ours(vault), get_peer, 20),
        (
            "set",
            lambda: set_ours(vault, "SECRET0"),
            lambda peer: peer.set_password("jupyter_aios", "SECRET0", VALUE),
            1,
        ),
    ]
    for verb, ours, theirs, repeat in verbs:
        for name, peer, times in (
            ("same KDF", at_our_cost, few),
            ("as it comes", as_it_comes, many),
            ("no KDF in the peer", without, many),
        ):
            figures = report.pair(f"{verb}, {name}", *alternate(
                times,
                lambda ours=ours, repeat=repeat: milliseconds(ours, repeat),  # type: ignore[misc]
                lambda theirs=theirs, peer=peer: milliseconds(lambda: theirs(peer)),  # type: ignore[misc]
            ))  # fmt: skip
            if name == "same KDF":
                same.append(figures)
            else:
                report.extra[f"{verb}_{name.replace(' ', '_')}"] = figures
    vault.close()
    report.extra["set_without_waiting_for_the_disk_ms"] = unsynced_set_ms(report, path, many)
    return max(same, key=lambda figures: figures["ratio"])


def unsynced_set_ms(report: Report, path: Path, times: int) -> float:
    """Return the median of a set that does not wait for the disk."""
    vault = Vault.open(path, Passphrase(Secret(PASSPHRASE)), disk=UnsyncedDisk())
    taken = sorted(milliseconds(lambda: set_ours(vault, "SECRET0")) for _ in range(times))
    vault.close()
    median = round(taken[len(taken) // 2], 3)
    report.line(f"{'set, not waiting for the disk':<28} ours {median:>10} ms")
    return median


def _argon2id(salt: bytes) -> bytes:
    return stretch(PASSPHRASE.encode(), salt, Cost())


def _hash(salt: bytes) -> bytes:
    return hashlib.sha256(PASSPHRASE.encode() + salt).digest()


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("vault", "ms", "lower", options.json)
    with tempfile.TemporaryDirectory(prefix="aios-bench-") as folder:
        report.finish(compare(report, Path(folder), is_quick=options.quick))


if __name__ == "__main__":
    main()
