"""The verbs of the vault, typed into a real notebook: first use, day to day, and lost keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.rights import AuditQuery
from jupyter_aios.core.safe import KeyKind, VaultKey, VaultState
from jupyter_aios.core.states import JobState
from tests.homes import home_at
from tests.launching import eventually
from tests.spine.kernels import Kernels, over

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_aios.client import Client
    from tests.spine.kernels import Cell, Kernel

# One worker: the file's tests share a home and a kernel.
pytestmark = [
    pytest.mark.xdist_group("verbs of the vault"),
    pytest.mark.usefixtures("no_keyring"),
]

FIRST, SECOND = "correct horse battery staple", "Tr0ub4dor & drei"
VALUE, NEXT = "hf_9mWqL2xv7RkTz0aB", "hf_0aBz7RkTq9mWL2xv"
WAITS = "waits for the vault: %aios unlock"
NEW = "new passphrase of the vault"
AGAIN = f"{NEW}, again"
PRESENT = "present passphrase of the vault"
UNLOCK = "passphrase of the vault"
OPEN = re.compile(r"the vault is open until nobody has used it for (8 h 00|7 h 59) min; keys: ")
PLAIN_KEYRING = '''
import json, os, pathlib
from keyring.backend import KeyringBackend

class Keyring(KeyringBackend):
    """A desktop's keyring, as far as the vault can tell: it keeps what it is given."""

    priority = 5
    path = pathlib.Path(os.environ["AIOS_HOME"]).parent / "desktop.json"

    def get_password(self, service, username):
        kept = json.loads(self.path.read_text()) if self.path.exists() else {}
        return kept.get(f"{service} {username}")

    def set_password(self, service, username, password):
        self.path.write_text(json.dumps({f"{service} {username}": password}))

    def delete_password(self, service, username):
        self.path.unlink()
'''


@pytest.fixture(scope="module")
def notebook(kernels: Kernels) -> Kernel:
    """Give a notebook in whose vault HF_TOKEN lies, under the first passphrase."""
    kernel = kernels.start()
    cell = kernel.answer("%aios secret set HF_TOKEN", FIRST, FIRST, VALUE)
    assert cell.result == "HF_TOKEN is in the vault: inject, version 1, 19 B", cell
    assert cell.stderr.startswith("This is the first secret here. A passphrase will lock the vault")
    assert cell.asked == [NEW, AGAIN, "value of HF_TOKEN"]
    return kernel


@pytest.fixture
def kernel(notebook: Kernel, client: Client) -> Kernel:
    """Give the notebook with its vault open, whatever the test before did."""
    client.safe.unlock(VaultKey(KeyKind.PASSPHRASE, FIRST))
    return notebook


def refused(cell: Cell) -> tuple[str, str]:
    """Return a refusal's two lines."""
    error, hint = cell.error.splitlines()
    return error, hint


# ------------------------------------------------------------------------------------ first use


def test_a_home_has_no_vault_until_somebody_has_a_secret(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path)
    with home_at(tmp_path / "home") as home:
        try:
            kernel = kernels.start()
            nothing = "there is no vault yet; %aios secret set NAME makes it"
            assert kernel.run("%aios lock").result == nothing
            assert kernel.run("%aios vault").result == nothing
            assert kernel.run("%%aios_train --name plain\nprint('runs')").lines == ["runs"]
            unequal = kernel.answer("%aios secret set HF_TOKEN", FIRST, SECOND)
            assert unequal.error == "InputError: the two are not equal; nothing was changed"
            assert not (home / "vault").exists()
            empty = kernel.answer("%aios secret set HF_TOKEN", "")
            assert empty.error == f"InputError: {NEW}: nothing was typed"
            assert not (home / "vault").exists()
        finally:
            kernels.close()


def test_with_a_keyring_the_first_secret_asks_for_nothing_but_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "desktop.py").write_text(PLAIN_KEYRING)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "desktop.Keyring")
    kernels = Kernels(tmp_path)
    with home_at(tmp_path / "home") as home:
        try:
            kernel = kernels.start()
            cell = kernel.answer("%aios secret set HF_TOKEN", VALUE)
            assert (cell.asked, cell.stderr) == (["value of HF_TOKEN"], "")
            opened = "the vault is open until the controller ends; keys: keyring"
            assert kernel.run("%aios vault").result == opened
            before = (home / "vault").read_bytes()
            kernel.run("%aios restart")
            assert kernel.run("%aios vault").result == opened
            code = "import jupyter_aios as aios\nprint(len(aios.secret('HF_TOKEN')))"
            assert kernel.run(f"%%aios_train --secret HF_TOKEN\n{code}").lines == ["19"]
            assert (home / "vault").read_bytes() == before
        finally:
            kernels.close()


# ----------------------------------------------------------------------------- unlock and lock


def test_a_locked_vault_opens_by_its_passphrase_and_by_nothing_else(
    kernel: Kernel, client: Client
) -> None:
    assert kernel.run("%aios lock").result == "the vault is locked; jobs that need a secret wait"
    assert client.safe.vault().state is VaultState.LOCKED
    wrong = kernel.answer("%aios unlock", SECOND)
    assert wrong.asked == [UNLOCK]
    assert refused(wrong) == (
        "DeniedError: this key does not open the vault",
        "hint: try again, or use another way in: a key file or the recovery key",
    )
    # What needs it opens it: nobody has to think of `unlock` first.
    shared = kernel.answer("%aios secret share HF_TOKEN --nobody", FIRST)
    assert shared.asked == [UNLOCK]
    assert shared.result.startswith("HF_TOKEN is for ")
    assert OPEN.match(kernel.run("%aios unlock").result)


def test_a_new_passphrase_takes_the_present_one_and_ends_it(kernel: Kernel) -> None:
    wrong = kernel.answer("%aios passwd", SECOND, FIRST, FIRST)
    assert wrong.asked == [PRESENT, NEW, AGAIN]
    assert wrong.error.startswith("DeniedError: this key does not open the vault")
    changed = kernel.answer("%aios passwd", FIRST, SECOND, SECOND)
    assert OPEN.match(changed.result), changed
    kernel.run("%aios lock")
    assert kernel.answer("%aios unlock", FIRST).error.startswith("DeniedError: this key does not")
    assert OPEN.match(kernel.answer("%aios unlock", SECOND).result)
    assert OPEN.match(kernel.answer("%aios passwd", SECOND, FIRST, FIRST).result)


def test_a_recovery_key_lies_in_a_file_and_opens_the_vault(kernel: Kernel, tmp_path: Path) -> None:
    paper = tmp_path / "recovery.txt"
    made = kernel.answer(f"%aios passwd --recovery-key {paper}", FIRST)
    assert made.result.startswith(f"the recovery key is in {paper}; print it, put it away")
    assert paper.stat().st_mode & 0o777 == 0o600
    text = paper.read_text().strip()
    assert text not in made.result
    kernel.run("%aios lock")
    opened = kernel.answer("%aios unlock --recovery-key", text.lower().replace("-", " "))
    assert opened.result.endswith("keys: passphrase, recovery key")


def test_a_notebook_without_a_keyboard_says_what_to_do_instead(kernel: Kernel) -> None:
    kernel.run("%aios lock")
    assert refused(kernel.run("%aios unlock")) == (
        "StateError: passphrase of the vault: this notebook has no keyboard",
        "hint: AIOS_PASSPHRASE_FILE=/a/file/of/mode/600 for services, --key-file PATH else",
    )
    assert OPEN.match(kernel.answer("%aios unlock", FIRST).result)
    assert refused(kernel.run("%aios secret set OTHER")) == (
        "StateError: value of OTHER: this notebook has no keyboard",
        "hint: put it into a file of mode 600 and name it with --file",
    )


# ------------------------------------------------------------------------------------- secrets


def test_a_value_on_the_line_is_refused_and_not_repeated(kernel: Kernel) -> None:
    for line in (f"set OTHER={NEXT}", f"rotate HF_TOKEN={NEXT}"):
        cell = kernel.run(f"%aios secret {line}")
        error, hint = refused(cell)
        assert error == "InputError: a secret's value never stands on the line"
        assert hint == f"hint: %aios secret {line.partition('=')[0]}"
        assert NEXT not in repr(vars(cell) | {"kernel": None})
    assert "OTHER" not in kernel.run("%aios secret list").result


def test_a_secret_is_listed_shared_rotated_and_forgotten(kernel: Kernel, tmp_path: Path) -> None:
    value = tmp_path / "value"
    value.write_text(f"{VALUE}\n")
    value.chmod(0o600)
    stored = kernel.run(f"%aios secret set DATA --file {value}")
    assert stored.result == "DATA is in the vault: inject, version 1, 19 B"
    twice = kernel.run(f"%aios secret set DATA --file {value}")
    assert refused(twice) == (
        "StateError: there is a secret DATA already, version 1",
        "hint: %aios secret rotate DATA",
    )
    shared = kernel.run("%aios secret share DATA --with user:eve:read --with group:students")
    assert re.fullmatch(
        r"DATA is for \S+ and user:eve \(read\), group:students \(use\)", shared.result
    )
    rotated = kernel.answer("%aios secret rotate DATA", NEXT)
    assert rotated.result == "DATA is in the vault: inject, version 2, 19 B"
    row = next(
        line for line in kernel.run("%aios secret list").result.splitlines() if "DATA" in line
    )
    who = r"user:eve \(read\), group:students \(use\)"
    assert re.fullmatch(rf"DATA +\S+ +inject +2 +[\d.]+ s ago +never +{who} +own", row)
    alone = kernel.run("%aios secret share DATA --nobody").result
    assert alone.endswith("and nobody else")
    gone = kernel.run("%aios secret rm DATA").result
    assert gone == "DATA is forgotten; jobs that have it keep it until they end"
    assert refused(kernel.run("%aios secret rm DATA"))[0].startswith("UnknownNameError: ")


def test_a_secret_travels_in_a_file_under_a_passphrase_of_its_own(
    kernel: Kernel, tmp_path: Path
) -> None:
    file, phrase = tmp_path / "token.aios", "only for this file"
    sent = kernel.answer(f"%aios secret export HF_TOKEN --file {file}", phrase, phrase)
    assert sent.asked == ["passphrase of the file", "passphrase of the file, again"]
    assert sent.result.endswith("encrypted")
    assert (file.stat().st_mode & 0o777, VALUE.encode() in file.read_bytes()) == (0o600, False)
    wrong = kernel.answer(f"%aios secret import COPY --file {file}", FIRST)
    assert wrong.error.startswith("DeniedError: ")
    taken = kernel.answer(f"%aios secret import COPY --file {file}", phrase)
    assert taken.result == "COPY is in the vault: inject, version 1, 19 B"
    code = "import jupyter_aios as aios\nprint(aios.secret('COPY') == aios.secret('HF_TOKEN'))"
    cell = kernel.run(f"%%aios_train --secret COPY --secret HF_TOKEN\n{code}")
    assert cell.lines == ["True"], cell


# ---------------------------------------------------------------------------- jobs, and the audit


def test_a_job_waits_for_the_vault_says_so_and_starts_when_it_opens(
    kernel: Kernel, kernels: Kernels, client: Client
) -> None:
    kernel.run("%aios lock")
    code = "import jupyter_aios as aios\nprint('has', len(aios.secret('HF_TOKEN')))"
    waiting = kernel.begin(f"%%aios_train --name waiter --secret HF_TOKEN\n{code}")
    waiting.until(lambda cell: WAITS in cell.status + cell.stdout, "the view tells why")
    other = kernels.start()
    # Who needs nothing of the vault does not stand behind it.
    assert other.run("%%aios_train --name plain\nprint('runs')").lines == ["runs"]
    job = client.job("waiter")
    assert (job.state, job.reason) == (JobState.QUEUED, WAITS)
    assert OPEN.match(other.answer("%aios unlock", FIRST).result)
    assert waiting.end().lines[-1] == "has 19"
    assert over(client, "waiter").state is JobState.SUCCEEDED


def test_the_audit_tells_what_was_done_and_that_its_chain_holds(
    kernel: Kernel, client: Client
) -> None:
    code = "import jupyter_aios as aios\naios.secret('HF_TOKEN')"
    kernel.run(f"%%aios_train --name audited --secret HF_TOKEN\n{code}")
    job = client.job("audited")
    shown = kernel.run(
        "%aios audit --resource HF_TOKEN --action secret:read --since 10min"
    ).result.splitlines()
    assert shown[0].split() == ["TIME", "USER", "DID", "WITH", "ALLOWED", "WHY"]
    assert f"secret:{job.owner}/HF_TOKEN" in shown[1]
    assert f"yes      job {job.id}: " in shown[1]
    assert re.fullmatch(r"the chain of \d+ rows holds", shown[-1])
    kernel.run("%aios lock")
    eventually(lambda: client.safe.vault().state is VaultState.LOCKED, "it is locked")
    unsealed = kernel.run("%aios audit --limit 1").result.splitlines()[-1]
    assert unsealed.endswith("rows; the vault is locked, so their seals were not checked")
    kernel.answer("%aios unlock", FIRST)
    page = client.safe.audit(AuditQuery(action="secret:use"))
    assert (page.fault, page.is_verified) == ("", True)


def test_a_locked_vault_is_told_where_one_is(kernel: Kernel) -> None:
    kernel.run("%aios lock")
    for line in ("%aios vault", "%aios lock"):
        assert kernel.run(line).result == "the vault is locked; jobs that need a secret wait"
    assert OPEN.match(kernel.answer("%aios unlock", FIRST).result)
