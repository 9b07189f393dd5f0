"""What is wrong with secrets, grants and tokens is told at once, and nothing is changed."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.entities import SecretUse
from jupyter_aios.core.rights import AuditQuery
from jupyter_aios.core.safe import KeyKind, VaultKey
from jupyter_aios.core.secrets import Share
from jupyter_aios.errors import AiosError, DeniedError, UnknownNameError
from tests.controller.rig import Rig, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VALUE = "planted-and-never-told"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """Give a controller with secrets of ada's: one for bob to use, one for nobody."""
    rig = Rig(tmp_path / "home")
    rig.open_vault()
    rig.put_secret("SHARED", VALUE, shares=(Share("user:bob"),))
    rig.put_secret("HIDDEN", VALUE)
    yield rig
    rig.controller.close()


def refused(act: Callable[[], object]) -> AiosError:
    with pytest.raises((DeniedError, UnknownNameError)) as caught:
        act()
    return caught.value


def denials(rig: Rig) -> list[tuple[str, str, str, str]]:
    """Return who was denied what, of what and why, newest first."""
    admin = rig.actor(rig.controller.service.user)
    page = rig.rights.audit(admin, AuditQuery(only_denied=True))
    assert not page.fault
    return [(row.user, row.action, row.resource, row.reason) for row in page.rows]


def test_a_submission_beyond_a_quota_is_denied_and_written_down_with_its_figures(rig: Rig) -> None:
    bob = rig.log_in("bob")
    error = refused(lambda: bob.submit(fake_spec(nodes=1, ranks_per_node=9)))
    assert isinstance(error, DeniedError)
    assert denials(rig) == [("bob", "job:submit", "jobs:", error.message)]
    assert "9 ranks wanted, 8 of 8 left" in error.message


def test_a_job_that_would_read_a_secret_that_is_for_use_only_is_written_down(rig: Rig) -> None:
    bob, use = rig.log_in("bob"), SecretUse("SHARED", owner="ada")
    spec = fake_spec(secrets=(use,))
    error = refused(lambda: bob.submit(spec))
    assert error.message == "bob (student) may not secret:read on secret 'ada/SHARED' of ada"
    assert denials(rig) == [("bob", "job:submit", "jobs:", error.message)]
    assert refused(lambda: bob.dry_run(spec)).message == error.message
    assert len(denials(rig)) == 2


def test_who_looks_for_secrets_of_others_by_a_job_leaves_the_same_trace_there_or_not(
    rig: Rig,
) -> None:
    bob = rig.log_in("bob")
    for name in ("HIDDEN", "GUESSED"):
        spec = fake_spec(secrets=(SecretUse(name, owner="ada"),))
        refused(partial(bob.submit, spec))
    guessed, hidden = denials(rig)
    assert hidden[:3] == ("bob", "secret:use", "secret:ada/HIDDEN")
    assert guessed == tuple(text.replace("HIDDEN", "GUESSED") for text in hidden)


def test_a_name_of_ones_own_that_is_mistyped_is_no_denial(rig: Rig) -> None:
    bob = rig.log_in("bob")
    error = refused(lambda: bob.submit(fake_spec(secrets=(SecretUse("MINE"),))))
    assert isinstance(error, UnknownNameError)
    assert denials(rig) == []


def test_a_wrong_key_of_the_vault_is_written_down_and_no_part_of_it(
    rig: Rig, tmp_path: Path
) -> None:
    owner = rig.controller.service.user
    wrong = tmp_path / "wrong.key"
    wrong.write_text("cd" * 32)
    wrong.chmod(0o600)
    rig.controller.keeper.lock()
    key = VaultKey(KeyKind.KEY_FILE, str(wrong))
    reply = rig.ask(os.getuid(), "POST", "/v1/vault/unlock", body=key)
    assert reply.status == 403
    (row,) = denials(rig)
    assert row[:3] == (owner, "vault:unlock", "vault:")
    assert "cdcd" not in row[3]
