"""What is said of vault, secrets and rights, in every state, and what one is told to type."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from jupyter_aios.core.policy import Role
from jupyter_aios.core.quotas import Quota, Usage
from jupyter_aios.core.rights import QuotaRow
from jupyter_aios.core.safe import VaultState, VaultStatus
from jupyter_aios.core.secrets import SecretClass
from jupyter_aios.errors import UnknownNameError
from jupyter_aios.widgets.safe import words
from jupyter_aios.widgets.safe.model import laid_out
from jupyter_aios.widgets.safe.rows import ShownSecret, spent_of, with_quotas
from jupyter_aios.widgets.safe.text import TABLES, table, text
from tests.widgets.safes import (
    ABSENT,
    ADA,
    BOB,
    DAMAGED,
    EVE,
    LOCKED,
    NOW,
    everything,
    secret,
    without_vault,
)

STUDENT: dict[str, Any] = {"asker": EVE, "role": Role.STUDENT}


@pytest.mark.parametrize(
    ("vault", "kind", "command"),
    [
        (LOCKED, "locked", "%aios unlock"),
        (ABSENT, "absent", "%aios secret set NAME"),
        (DAMAGED, "damaged", "%aios vault restore"),
    ],
)
def test_a_vault_that_is_not_open_says_what_to_type(
    vault: VaultStatus, kind: str, command: str
) -> None:
    state = without_vault(vault)
    told = words.vault_told(state)
    assert told.kind == kind
    assert told.commands == (command,)
    assert words.no_secrets(state)[1] == command
    assert f"type: {command}" in text(state)


@pytest.mark.parametrize("vault", [LOCKED, ABSENT, DAMAGED])
def test_who_may_not_open_the_vault_is_told_whom_to_ask(vault: VaultStatus) -> None:
    told = words.vault_told(without_vault(vault, **STUDENT))
    assert told.commands == ()
    assert told.line.endswith("Ask ada, who runs this controller.")


def test_an_open_vault_says_when_it_locks_and_an_empty_one_how_to_begin() -> None:
    state = everything(secrets=())
    assert words.vault_told(state).line == (
        "Secrets can be used; it locks in 3 h 00 min unless it is used."
    )
    assert words.no_secrets(state)[1] == "%aios secret set NAME"
    by_keyring = dataclasses.replace(state.vault, locks_at=None)
    told = words.vault_told(everything(vault=by_keyring))
    assert "stays open until the controller ends" in told.line


def test_every_class_is_explained_in_a_line() -> None:
    assert set(words.CLASSES) == set(SecretClass)
    told = {one["kind"]: one["why"] for one in laid_out(everything())["secrets"]}
    assert told["inject"] == "the job sees the value"
    assert "no job sees it" in told["broker"]
    assert "no job sees it" in told["derived"]


def test_a_secret_has_its_owner_version_ages_shares_and_what_to_type() -> None:
    (key, token, hub) = laid_out(everything())["secrets"]
    assert (hub["name"], hub["owner"], hub["version"], hub["may"]) == ("HUB", "ada", 2, "own")
    assert hub["changed"] == "25 h 00 min ago"
    assert hub["used"] == "1 h 00 min ago, eve, job mnist"
    assert hub["who"] == ["user:eve (use)", "group:ml (use)"]
    assert ["sent to", "https://hub.example.org/models/ and below"] in hub["facts"]
    assert ["public key", "ssh-ed25519 AAAAC3Nza aios:CLUSTER"] in key["facts"]
    assert token["commands"][0] == "%%aios_train --secret HF_TOKEN"
    shared = secret("HUB", SecretClass.DERIVED, may="use")
    assert words.commands_of(shared) == ["%%aios_train --secret ada/HUB"]


def test_a_secret_that_no_job_has_used_was_used_never() -> None:
    row = dataclasses.replace(secret("X", SecretClass.INJECT), last_used_at=None, last_used_by="")
    assert ShownSecret.of(row, NOW).used == "never"


def test_members_have_their_quotas_and_groups_come_after_them() -> None:
    state = everything()
    names = [name for name, _, _ in with_quotas(state.members, state.quotas)]
    assert names[:3] == [ADA, BOB, EVE]
    assert names[-1] == "group:ml"
    shown = {one["name"]: one for one in laid_out(state)["members"]}
    assert shown[ADA]["is_you"]
    assert shown[ADA]["spent"] == {}
    assert shown[EVE]["spent"]["ranks"] == {"text": "2 of 8", "part": 0.25, "is_close": False}
    assert shown["group:ml"]["spent"]["ranks"]["is_close"]
    assert not shown[EVE]["is_default"]


def test_a_member_whose_quota_is_not_told_has_none_to_show() -> None:
    shown = laid_out(everything(quotas=()))["members"]
    assert all(one["spent"] == {} for one in shown)


@pytest.mark.parametrize(
    ("quota", "used", "part"), [(0, 0, 0.0), (0, 1, 1.0), (4, 1, 0.25), (4, 9, 1.0)]
)
def test_a_part_lies_between_nothing_and_all(quota: int, used: int, part: float) -> None:
    (spent,) = spent_of(Quota(ranks=quota), Usage(ranks=used))
    assert spent.part == part
    assert spent.text == f"{used} of {quota}"


def test_a_broken_chain_is_alarming_and_an_unchecked_one_is_not() -> None:
    audit = everything().audit
    broken = dataclasses.replace(audit, fault="row 7 is not what was written")
    assert words.chain_told(broken) == (
        "The chain of the audit is broken: row 7 is not what was written", True,
    )  # fmt: skip
    unchecked = dataclasses.replace(audit, is_verified=False)
    assert words.chain_told(unchecked)[1] is False
    assert "the vault is locked" in words.chain_told(unchecked)[0]
    assert words.chain_told(audit) == ("The chain of 912 rows holds.", False)


def test_only_who_may_grant_is_told_how() -> None:
    assert laid_out(everything())["grant"] == "%aios grant NAME --role student"
    assert laid_out(everything(**STUDENT))["grant"] == ""
    assert laid_out(everything(**STUDENT))["heading"] == "eve (student) at the controller of ada"


def test_what_is_laid_out_is_json() -> None:
    for state in (everything(), without_vault(LOCKED), without_vault(ABSENT)):
        assert json.loads(json.dumps(laid_out(state))) == laid_out(state)


def test_tables_hold_the_rows_and_a_wrong_name_offers_the_right_one() -> None:
    state = everything()
    assert [len(table(state, of)) for of in TABLES] == [3, 63, 7]
    with pytest.raises(UnknownNameError, match="did you mean members"):
        table(state, "member")


def test_a_terminal_shows_all_of_it() -> None:
    shown = text(everything(2))
    for part in ("vault open", "HF_TOKEN", "student-01", "secret:read", "chain of 912 rows holds"):
        assert part in shown
    assert VaultState.UNLOCKED.value not in shown
    quiet = dataclasses.replace(everything().audit, rows=())
    assert "nothing was denied" in text(everything(audit=quiet))


def test_quotas_of_a_stranger_are_rows_of_their_own() -> None:
    row = QuotaRow("user:gone", Quota(ranks=1), Usage())
    assert with_quotas((), (row,)) == [("user:gone", None, row)]
