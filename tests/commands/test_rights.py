from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client.login import LOGIN_FILE
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.rights import FrontWish
from jupyter_aios.errors import (
    DeniedError,
    InputError,
    LockedError,
    UnavailableError,
    UnknownNameError,
)
from tests.safe.desk import Desk, desk_at, runs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Give a desk whose vault is open; ada is a teacher, bob a student."""
    with desk_at(tmp_path) as desk:
        desk.rig.open_vault()
        yield desk


def row_of(shown: str, first: str) -> list[str]:
    """Return the cells of the row that begins so."""
    (line,) = [line for line in shown.splitlines() if line.startswith(first)]
    return re.split(r"  +", line)


def member(desk: Desk, user: str) -> Member | None:
    """Return what the store knows of somebody."""
    return desk.rig.store.member(UserId(user))


# ---------------------------------------------------------------------------------------- grant


def test_a_role_and_groups_are_given_and_kept_apart(desk: Desk) -> None:
    shown = desk.type("grant eve --role student --group students,evening")
    assert row_of(shown, "eve")[:3] == ["eve", "student", "students, evening"]
    desk.type("grant eve --role teacher")
    assert member(desk, "eve") == Member(UserId("eve"), Role.TEACHER, ("students", "evening"))
    desk.type("grant eve --group morning")
    assert member(desk, "eve") == Member(UserId("eve"), Role.TEACHER, ("morning",))
    desk.type("grant max --group morning")
    assert member(desk, "max") == Member(UserId("max"), Role.STUDENT, ("morning",))


def test_a_quota_changes_what_it_names_and_leaves_the_role_s_other_limits(desk: Desk) -> None:
    shown = row_of(desk.type("grant bob --ranks 2 --gpu-hours 1.5"), "bob")
    assert shown[2:] == ["0 of 2", "0 of 1.5", "0 of 4", "up to 0", "0 B of 64 GiB"]
    shown = row_of(desk.type("grant bob --gpu-hours none --jobs 1 --max-priority 7"), "bob")
    assert shown[2:] == ["0 of 2", "0 of 1", "up to 7", "0 B of 64 GiB"]
    shown = row_of(desk.type("grant group:students --disk 10GiB --ranks 5"), "group:students")
    assert shown == ["group:students", "0 of 5", "0 B of 10 GiB"]


NO_GRANTS = {
    "--role student": "grant to whom?",
    "--ranks 3": "grant to whom?",
    "eve": "grant eve what?",
    "group:students --role student": "roles and groups are given to users",
    "eve --ranks many": "--ranks many: a whole number",
    "eve --gpu-hours lots": "--gpu-hours lots: a number, 0 or more, or none",
    "eve --gpu-hours -1": "--gpu-hours -1: a number, 0 or more, or none",
    "eve --gpu-hours nan": "--gpu-hours nan: a number, 0 or more, or none",
    "eve --role dean": "no role is named 'dean'",
    "a:b --role student": "user 'a:b': a name without ':', '/' or blanks",
}


def test_what_cannot_be_meant_is_refused_and_nothing_is_changed(desk: Desk) -> None:
    before = desk.type("grant")
    for line, told in NO_GRANTS.items():
        with pytest.raises(InputError, match=re.escape(told)):
            desk.type(f"grant {line}")
        assert desk.type("grant") == before


def test_a_fault_in_the_quota_gives_no_role_either(desk: Desk) -> None:
    with pytest.raises(InputError):
        desk.type("grant eve --role teacher --disk huge")
    assert member(desk, "eve") is None


def test_whoever_runs_the_controller_stays_its_admin(desk: Desk) -> None:
    with pytest.raises(InputError, match="runs the controller and stays its admin"):
        desk.type(f"grant {runs()} --role student")


# ---------------------------------------------------------------------------------------- token


def test_a_token_lies_in_its_file_and_nowhere_else(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "bob.token"
    told = desk.type(f"token issue bob --to {file} --valid 2d --note laptop")
    token = file.read_text().strip()
    assert (file.stat().st_mode & 0o777, token[:5]) == (0o600, "aios_")
    found = re.fullmatch(
        rf"token (\w{{8}}) for bob is in {file} and ends in 2 d 0 h; aios token revoke \1", told
    )
    assert found, told
    listed = desk.type("token list")
    assert row_of(listed, found[1])[1] == "bob"
    assert row_of(listed, found[1])[3] == "laptop"
    assert token not in told + listed
    assert desk.type(f"token revoke {found[1]}") == f"token {found[1]} is not accepted any more"
    assert desk.type("token list") == "no tokens"


def test_a_token_whose_file_cannot_be_written_is_not_valid(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(InputError, match="cannot be made"):
        desk.type(f"token issue bob --to {tmp_path}/dangling")
    with pytest.raises(InputError, match="cannot be made"):
        desk.type(f"token issue bob --to {tmp_path}/no/folder/token")
    assert desk.type("token list") == "no tokens"


NO_TOKENS = {
    "issue": "issue wants a USER and a new file",
    "issue bob": "issue wants a USER and a new file",
    "issue bob --to {folder}": "is there already",
    "issue bob --to {folder}/new --valid never": "never",
    "issue bob --to {folder}/new --valid 400d": "a token is valid for up to 366 days",
    "revoke": "revoke wants a token's ID",
    "revoke 12345678": "no token is named '12345678'",
    "make bob": "no action of token is named 'make'",
}


def test_what_no_token_can_be_is_refused(desk: Desk, tmp_path: Path) -> None:
    for line, told in NO_TOKENS.items():
        with pytest.raises(InputError, match=re.escape(told)):
            desk.type(f"token {line.format(folder=tmp_path)}")
        assert desk.type("token list") == "no tokens"
        assert not (tmp_path / "new").exists()


# ---------------------------------------------------------------------------------------- login


def serve_bob(desk: Desk, file: Path) -> str:
    """Serve others and give bob a token; return the line by which he logs in."""
    front = desk.rig.controller.serving.open(FrontWish("127.0.0.1", 0))
    desk.type(f"token issue bob --to {file}")
    return f"login {front.url} --fingerprint {front.fingerprint}"


def test_who_logs_in_is_told_who_they_are_and_comes_back_by_logging_out(
    desk: Desk, tmp_path: Path
) -> None:
    file, kept = tmp_path / "bob.token", desk.rig.home / LOGIN_FILE
    line = serve_bob(desk, file)
    told = desk.type(line, file.read_text())
    assert desk.keyboard.asked == ["token"]
    assert re.fullmatch(
        rf"you are bob \(student\) at \S+; the token is in {kept} \(mode 600\)", told
    )
    assert kept.stat().st_mode & 0o777 == 0o600
    assert desk.place.client.hello().asker == "bob"
    with pytest.raises(DeniedError):
        desk.type("lock")
    assert desk.type("logout") == "logged out; the controller is this machine's"
    assert desk.type("logout") == "not logged in"
    assert desk.place.client.hello().asker == runs()


def test_what_does_not_let_in_is_not_kept(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "bob.token"
    line = serve_bob(desk, file)
    token = file.read_text().strip()
    url = line.split()[1]
    refused = [
        (line, token[:-1] + ("a" if token[-1] != "a" else "b"), DeniedError),
        (f"login {url} --fingerprint sha256:{'0' * 64}", token, DeniedError),
        (f"login {url}", token, DeniedError),
        (f"login {url} --fingerprint sha256:12", token, InputError),
        ("login https://127.0.0.1:1 --fingerprint " + "0" * 64, token, UnavailableError),
        (f"login http{url[5:]} --fingerprint {'0' * 64}", token, InputError),
        (line, "not a token", InputError),
    ]
    for typed, what, kind in refused:
        with pytest.raises(kind) as caught:
            desk.type(typed, *([what] if "sha256:12" not in typed else []))
        assert caught.value.hint
        assert token not in str(caught.value)
        assert not (desk.rig.home / LOGIN_FILE).exists()


# ---------------------------------------------------------------------------------------- audit


def test_the_audit_shows_who_did_what_and_filters(desk: Desk) -> None:
    desk.type("secret set A", "a value")
    desk.type("grant eve --role student")
    shown = desk.type("audit --action secret:set").splitlines()
    assert shown[0].split() == ["TIME", "USER", "DID", "WITH", "ALLOWED", "WHY"]
    assert re.split(r"  +", shown[1])[1:5] == [runs(), "secret:set", "secrets:A", "yes"]
    assert re.fullmatch(r"the chain of \d+ rows holds", shown[-1])
    assert desk.type("audit --user nobody").startswith("no such rows")
    assert desk.type("audit --denied").startswith("no such rows")
    assert len(desk.type("audit --limit 2").splitlines()) == 5
    assert "role:grant" in desk.type("audit --resource eve")
    with pytest.raises(InputError, match="--limit x: a whole number"):
        desk.type("audit --limit x")


def test_a_head_that_is_kept_elsewhere_tells_that_the_end_was_cut_off(
    desk: Desk, tmp_path: Path
) -> None:
    file = tmp_path / "head.json"
    desk.type("secret set A", "a value")
    told = desk.type(f"audit --head {file}")
    assert re.fullmatch(rf"the head of \d+ rows is in {file}; keep it elsewhere", told)
    with pytest.raises(InputError, match="cannot be made: File exists"):
        desk.type(f"audit --head {file}")
    assert "rows holds" in desk.type(f"audit --against {file}")
    head = json.loads(file.read_text())
    file.write_text(json.dumps(head | {"mac": "0" * 64}))
    assert "THE CHAIN IS BROKEN" in desk.type(f"audit --against {file}")
    file.write_text(json.dumps(head | {"length": head["length"] + 1000}))
    assert "THE CHAIN IS BROKEN" in desk.type(f"audit --against {file}")
    for content in ("no json", "[]", "{}"):
        file.write_text(content)
        with pytest.raises(InputError):
            desk.type(f"audit --against {file}")


def test_a_locked_vault_signs_no_head_and_checks_no_seals(desk: Desk, tmp_path: Path) -> None:
    desk.type("lock")
    with pytest.raises(LockedError, match="nothing can be signed") as caught:
        desk.type(f"audit --head {tmp_path}/head")
    assert caught.value.hint == "%aios unlock"
    assert not (tmp_path / "head").exists()
    assert desk.type("audit").endswith("the vault is locked, so their seals were not checked")


def test_an_unknown_verb_s_nearest_are_these(desk: Desk) -> None:
    with pytest.raises(UnknownNameError) as caught:
        desk.type("grnt eve")
    assert "grant" in caught.value.hint
