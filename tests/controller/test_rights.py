"""Rights given and taken away, and the audit of it, as each kind of person meets them."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jupyter_aios.controller.access import user_name
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.quotas import DEFAULT_QUOTAS, Quota
from jupyter_aios.core.rights import (
    AuditQuery,
    MemberWish,
    QuotaRow,
    QuotaWish,
    SignedHead,
    TokenWish,
)
from jupyter_aios.core.wire import from_plain
from jupyter_aios.errors import AiosError, DeniedError, InputError, LockedError, UnknownNameError
from tests.controller.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ADMIN = os.getuid()
RUNS = user_name(ADMIN)
TEACHER, STUDENT, OTHER, GUEST = 4001, 4002, 4003, 4004
"""The student is of the teacher's group, the other one of another; names are user ids."""
DAY_S = 86400.0


def user(uid: int) -> UserId:
    return user_name(uid)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home", SqlStore(f"sqlite:///{tmp_path}/home/store.sqlite"))
    rig.store.save_member(Member(user(TEACHER), Role.TEACHER, ("ml",)))
    rig.store.save_member(Member(user(STUDENT), Role.STUDENT, ("ml", "art")))
    rig.store.save_member(Member(user(OTHER), Role.STUDENT, ("art",)))
    yield rig
    rig.controller.close()


def refusal(act: Callable[[], object]) -> AiosError:
    with pytest.raises(AiosError) as caught:
        act()
    return caught.value


# ------------------------------------------------------------------------ members


def test_a_role_is_granted_by_an_admin_and_counts_at_the_next_request(rig: Rig) -> None:
    assert rig.ask(GUEST, "GET", "/v1/nodes").status == 403
    wish = MemberWish(Role.STUDENT, ("ml",))
    for uid in (TEACHER, STUDENT, GUEST):
        assert rig.ask(uid, "PUT", f"/v1/members/{GUEST}", wish).status == 403
    reply = rig.ask(ADMIN, "PUT", f"/v1/members/{GUEST}", wish)
    assert from_plain(Member, reply.json()) == Member(user(GUEST), Role.STUDENT, ("ml",))
    assert rig.ask(GUEST, "GET", "/v1/nodes").status == 200


def test_members_are_shown_to_those_who_stand_over_them(rig: Rig) -> None:
    def seen(uid: int) -> set[str]:
        return {row["user"] for row in rig.ask(uid, "GET", "/v1/members").json()}

    everybody = {RUNS, "ada", "bob", *(str(uid) for uid in (TEACHER, STUDENT, OTHER))}
    assert seen(ADMIN) == everybody
    assert rig.ask(ADMIN, "GET", "/v1/members").json()[0]["user"] == RUNS
    assert seen(TEACHER) == {str(TEACHER), str(STUDENT)}
    assert seen(STUDENT) == {str(STUDENT)}


@pytest.mark.parametrize("name", ["a:b", "controller:", "a b", "a,b", "", "x" * 257, "a\nb", "a/b"])
def test_a_name_that_nobody_can_have_is_given_nothing(rig: Rig, name: str) -> None:
    for act in (
        lambda: rig.rights.grant(UserId(name), MemberWish(Role.ADMIN)),
        lambda: rig.rights.issue_token(UserId(name), TokenWish(DAY_S)),
    ):
        error = refusal(act)
        assert isinstance(error, InputError)
        assert "a name without ':', '/' or blanks" in error.message


def test_all_faults_of_a_grant_are_told_at_once(rig: Rig) -> None:
    wish = MemberWish(Role.STUDENT, ("m l", "ok", "a:b"))
    error = refusal(lambda: rig.rights.grant(UserId("a b"), wish))
    assert error.message.startswith("3 faults: ")


def test_who_runs_the_controller_cannot_be_shut_out(rig: Rig) -> None:
    error = refusal(lambda: rig.rights.grant(RUNS, MemberWish(Role.STUDENT)))
    assert error.message == f"{RUNS} runs the controller and stays its admin"
    assert rig.rights.grant(RUNS, MemberWish(Role.ADMIN, ("ml",))).groups == ("ml",)


# ------------------------------------------------------------------------ tokens


def test_a_token_is_shown_once_and_its_end_is_the_one_that_was_asked_for(rig: Rig) -> None:
    issued = rig.rights.issue_token(user(STUDENT), TokenWish(30 * DAY_S, "laptop"))
    assert issued.token not in repr(issued)
    assert issued.row.expires_at == rig.fake.machine.now + 30 * DAY_S
    assert (issued.row.user, issued.row.note) == (user(STUDENT), "laptop")
    for uid in (ADMIN, STUDENT):
        reply = rig.ask(uid, "GET", "/v1/tokens")
        assert [row["id"] for row in reply.json()] == [issued.row.id]
        assert issued.token.encode() not in reply.body
    assert rig.ask(TEACHER, "GET", "/v1/tokens").json() == []
    rig.fake.machine.now += 30 * DAY_S
    assert rig.ask(ADMIN, "GET", "/v1/tokens").json() == []


def test_no_file_of_the_store_holds_a_token(rig: Rig) -> None:
    tokens = [rig.rights.issue_token(user(STUDENT), TokenWish(DAY_S)).token for _ in range(20)]
    files = [path for path in rig.home.iterdir() if path.name.startswith("store.sqlite")]
    assert {"store.sqlite", "store.sqlite-wal"} <= {path.name for path in files}
    content = b"".join(path.read_bytes() for path in files)
    assert len(content) > 10_000
    row = rig.store.tokens(user(STUDENT))[0]
    assert row.digest.encode() in content  # so it was looked for in the right place
    for token in tokens:
        assert token.removeprefix("aios_")[:12].encode() not in content


@pytest.mark.parametrize(
    "valid_s", [0.0, -1.0, 366 * DAY_S + 1, float("inf"), float("nan")], ids=str
)
def test_a_token_is_not_for_ever(rig: Rig, valid_s: float) -> None:
    error = refusal(lambda: rig.rights.issue_token(user(STUDENT), TokenWish(valid_s)))
    assert isinstance(error, InputError)
    assert error.message == "a token is valid for up to 366 days"


def test_one_s_own_token_can_be_revoked_and_others_are_not_there(rig: Rig) -> None:
    mine = rig.rights.issue_token(user(STUDENT), TokenWish(DAY_S)).row
    theirs = rig.rights.issue_token(user(OTHER), TokenWish(DAY_S)).row
    said = []
    for token_id in (theirs.id, "0badf00d"):
        for uid in (STUDENT, TEACHER):
            reply = rig.ask(uid, "DELETE", f"/v1/tokens/{token_id}")
            assert reply.status == 404
        said.append(str(reply.json()).replace(token_id, "ID"))
    assert said[0] == said[1]
    assert theirs.id not in said[1]
    assert rig.ask(STUDENT, "DELETE", f"/v1/tokens/{mine.id}").status == 204
    assert rig.ask(STUDENT, "DELETE", f"/v1/tokens/{mine.id}").status == 204  # idempotent
    assert rig.ask(ADMIN, "DELETE", f"/v1/tokens/{theirs.id}").status == 204
    assert rig.ask(ADMIN, "GET", "/v1/tokens").json() == []


def test_only_an_admin_makes_tokens(rig: Rig) -> None:
    for uid in (TEACHER, STUDENT, GUEST):
        path = f"/v1/members/{uid}/tokens"
        assert rig.ask(uid, "POST", path, TokenWish(DAY_S)).status == 403
    assert rig.store.tokens() == ()


# ------------------------------------------------------------------------ quotas


def test_a_quota_is_set_by_an_admin_only(rig: Rig) -> None:
    wish = QuotaWish(Quota(ranks=3))
    for holder in (f"user:{STUDENT}", f"user:{TEACHER}", "group:ml"):
        for uid in (TEACHER, STUDENT, GUEST):
            # Else a teacher's own would hold nobody back, nor that of a group they are in.
            assert rig.ask(uid, "PUT", f"/v1/quotas/{holder}", wish).status == 403
            actor = rig.controller.gate.actor(user(uid), rig.actor(RUNS).kind)
            error = refusal(lambda a=actor, h=holder: rig.rights.set_quota(a, h, wish))  # type: ignore[misc]
            assert isinstance(error, DeniedError)
    assert rig.store.quotas() == {}
    for holder in (f"user:{STUDENT}", "group:ml"):
        reply = rig.ask(ADMIN, "PUT", f"/v1/quotas/{holder}", wish)
        assert from_plain(QuotaRow, reply.json()).quota == Quota(ranks=3)
    assert set(rig.store.quotas()) == {f"user:{STUDENT}", "group:ml"}


def test_quotas_are_shown_to_those_who_stand_over_their_holders(rig: Rig) -> None:
    rig.store.save_quota("group:ml", Quota(ranks=9))
    rig.store.save_quota("group:art", Quota(ranks=8))
    rig.store.save_quota(f"user:{STUDENT}", Quota(ranks=2))

    def seen(uid: int) -> dict[str, QuotaRow]:
        rows = from_plain(list[QuotaRow], rig.ask(uid, "GET", "/v1/quotas").json())
        return {row.holder: row for row in rows}

    assert {"group:ml", "group:art", f"user:{OTHER}"} <= seen(ADMIN).keys()
    assert seen(TEACHER).keys() == {f"user:{TEACHER}", f"user:{STUDENT}", "group:ml"}
    assert seen(OTHER).keys() == {f"user:{OTHER}", "group:art"}
    rows = seen(STUDENT)
    assert (rows[f"user:{STUDENT}"].quota, rows[f"user:{STUDENT}"].is_default) == (
        Quota(ranks=2),
        False,
    )
    other = seen(OTHER)[f"user:{OTHER}"]
    assert (other.quota, other.is_default) == (DEFAULT_QUOTAS[Role.STUDENT], True)


def test_a_quota_that_is_taken_back_gives_way_to_the_role_s(rig: Rig) -> None:
    admin, holder = rig.actor(RUNS), f"user:{STUDENT}"
    rig.rights.set_quota(admin, holder, QuotaWish(Quota(ranks=2)))
    row = rig.rights.set_quota(admin, holder, QuotaWish(None))
    assert (row.quota, row.is_default) == (DEFAULT_QUOTAS[Role.STUDENT], True)


@pytest.mark.parametrize(
    ("holder", "quota", "told"),
    [
        ("bob", Quota(ranks=1), "'bob': user:NAME"),
        ("team:bob", Quota(ranks=1), "'team:bob': user:NAME"),
        ("user:", Quota(ranks=1), "'user:': user:NAME"),
        ("user:bob", Quota(ranks=-1), "a quota is 0 or more"),
        ("user:bob", Quota(gpu_hours=float("nan")), "a quota is 0 or more"),
        ("user:bob", Quota(gpu_hours=float("inf")), "a quota is 0 or more"),
        ("bob", Quota(jobs=-1, disk_bytes=-1), "2 faults: "),
    ],
)
def test_a_quota_that_cannot_be_is_told(rig: Rig, holder: str, quota: Quota, told: str) -> None:
    error = refusal(lambda: rig.rights.set_quota(rig.actor(RUNS), holder, QuotaWish(quota)))
    assert isinstance(error, InputError)
    assert told in error.message
    assert rig.store.quotas() == {}


# ------------------------------------------------------------------------ the audit


@pytest.fixture
def past(rig: Rig) -> Rig:
    """Give a controller whose people have done this and that."""
    rig.open_vault()
    for uid in (TEACHER, STUDENT, OTHER, GUEST):
        rig.fake.machine.now += 10
        rig.ask(uid, "GET", "/v1/nodes")
        rig.ask(uid, "GET", "/v1/jobs/none")
    return rig


def page(rig: Rig, uid: int, query: str = "") -> list[tuple[str, str, bool]]:
    """Return who, what and whether allowed, of a page that somebody asks for."""
    found = rig.ask(uid, "GET", f"/v1/audit{query}").json()["rows"]
    return [(row["user"], row["action"], row["is_allowed"]) for row in found]


def test_the_audit_shows_everybody_what_is_their_business(past: Rig) -> None:
    def whose(uid: int) -> set[str]:
        return {who for who, _, _ in page(past, uid, "?limit=1000")}

    people = {str(uid) for uid in (TEACHER, STUDENT, OTHER, GUEST)}
    assert whose(ADMIN) == {RUNS} | people
    assert whose(TEACHER) == {str(TEACHER), str(STUDENT)}
    assert whose(STUDENT) == {str(STUDENT)}
    assert past.ask(GUEST, "GET", "/v1/audit").status == 403


def test_asking_for_somebody_else_s_rows_shows_none(past: Rig) -> None:
    assert page(past, STUDENT, f"?user={OTHER}") == []
    assert page(past, TEACHER, f"?user={OTHER}") == []
    assert page(past, TEACHER, f"?user={STUDENT}") != []


def test_the_audit_is_filtered_by_who_what_of_what_when_and_how_it_ended(past: Rig) -> None:
    assert set(page(past, ADMIN, f"?user={STUDENT}&action=node:read")) == {
        (str(STUDENT), "node:read", True)
    }
    assert {who for who, _, _ in page(past, ADMIN, "?resource=job:none")} == {
        str(uid) for uid in (TEACHER, STUDENT, OTHER, GUEST)
    }
    assert page(past, ADMIN, "?resource=job:%25") == []  # a percent sign is one
    denied = page(past, ADMIN, "?denied=true&action=node:read")
    assert denied == [(str(GUEST), "node:read", False)]
    since = past.fake.machine.now - 5
    late = page(past, ADMIN, f"?since={since}&resource=nodes")
    assert late == [(str(GUEST), "node:read", False)]
    newest = page(past, ADMIN, "?limit=2")
    assert newest == [(RUNS, "audit:read", True)] * 2


def test_a_teacher_finds_old_rows_of_students_behind_very_many_of_others(past: Rig) -> None:
    for _ in range(300):
        past.ask(OTHER, "GET", "/v1/jobs/none")
    rows = page(past, TEACHER, f"?limit=3&action=node:read&user={STUDENT}")
    assert rows == [(str(STUDENT), "node:read", True)]
    assert {who for who, _, _ in page(past, TEACHER, "?limit=3&action=node:read")} == {
        str(TEACHER),
        str(STUDENT),
    }


def test_a_page_says_whether_the_chain_holds_and_whether_that_could_be_checked(past: Rig) -> None:
    admin = past.actor(RUNS)
    found = past.rights.audit(admin, AuditQuery())
    assert (found.fault, found.is_verified) == ("", True)
    assert found.length == past.store.audit_head().seq
    past.controller.keeper.lock()
    found = past.rights.audit(admin, AuditQuery())
    assert (found.fault, found.is_verified) == ("", False)
    past.open_vault()
    with closing(sqlite3.connect(past.home / "store.sqlite")) as connection, connection:
        connection.execute(
            "UPDATE audit SET is_allowed = 1 WHERE id = (SELECT max(id) - 2 FROM audit)"
        )
        (place,) = connection.execute("SELECT max(id) - 2 FROM audit").fetchone()
    assert past.rights.audit(admin, AuditQuery(limit=1)).fault.startswith(f"row {place} is not")


def test_rows_that_were_cut_off_are_found_by_a_head_that_was_kept(past: Rig) -> None:
    head = past.rights.audit_head()
    against = f"{head.length}:{head.mac}"
    reply = past.ask(ADMIN, "GET", f"/v1/audit?against={against}")
    assert reply.json()["fault"] == ""
    with closing(sqlite3.connect(past.home / "store.sqlite")) as connection, connection:
        connection.execute("DELETE FROM audit WHERE id > ?", (head.length - 3,))
    fault = past.rights.audit(past.actor(RUNS), AuditQuery(against=against)).fault
    assert fault == f"it ends at row {head.length - 3}, but row {head.length} has been there"
    for text in ("x", f"{head.length}", f"{head.length}:{head.mac[:-1]}", "-1:" + head.mac):
        assert past.ask(ADMIN, "GET", f"/v1/audit?against={text}").status == 422


def message_of(head: SignedHead) -> bytes:
    """Return what is signed, as docs and `SignedHead` have it."""
    return b"jupyter_aios audit head\0" + f"{head.length} {head.mac} {head.at!r}".encode()


def test_the_head_is_signed_so_that_anybody_can_check_it(past: Rig) -> None:
    reply = past.ask(ADMIN, "GET", "/v1/audit/head")
    head = from_plain(SignedHead, reply.json())
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(head.public_key))
    signature = bytes.fromhex(head.signature)
    key.verify(signature, message_of(head))
    for change in ({"length": head.length + 1}, {"mac": "0" * 64}, {"at": head.at + 0.5}):
        altered = SignedHead(**{**vars(head), **change})
        with pytest.raises(InvalidSignature):
            key.verify(signature, message_of(altered))
    again = past.rights.audit_head()
    assert again.public_key == head.public_key
    past.restart()
    past.open_vault()
    assert past.rights.audit_head().public_key == head.public_key


def test_the_head_is_for_admins_and_takes_the_open_vault(past: Rig) -> None:
    for uid in (TEACHER, STUDENT, GUEST):
        assert past.ask(uid, "GET", "/v1/audit/head").status == 403
    past.controller.keeper.lock()
    assert isinstance(refusal(past.rights.audit_head), LockedError)


def test_an_unknown_token_is_named_among_one_s_own(rig: Rig) -> None:
    mine = rig.rights.issue_token(user(STUDENT), TokenWish(DAY_S)).row
    error = refusal(lambda: rig.rights.revoke_token(rig.actor(str(STUDENT)), "0badf00d"))
    assert isinstance(error, UnknownNameError)
    assert mine.id in error.hint
