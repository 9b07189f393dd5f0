from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute

from jupyter_aios.controller.access import Gate, user_name, user_of
from jupyter_aios.controller.rules import RULES, Audit, Rule
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Action, Actor, ActorKind, Member, Role
from jupyter_aios.core.secrets import SecretClass, SecretInfo, Share
from jupyter_aios.errors import DeniedError, StorageError, UnknownNameError
from jupyter_aios.training.peers import peer_uid, read_lock
from tests.controller.rig import ME, FullStore, Rig, fake_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jupyter_aios.core.entities import Job

STRANGER = {"client": ("uid:4242", 0)}
BOB = UserId("bob")
NOT_OF_JOBS = [route for route in RULES if RULES[route].kind not in ("job", "secret")]
OF_JOBS = [route for route in RULES if RULES[route].kind == "job"]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "home")


def me() -> dict[str, Any]:
    return {"client": (f"uid:{os.getuid()}", 0)}


class KnownGate(Gate):
    """A gate whose scopes say who asks: only the proof is missing, which has tests of its own."""

    def actor_of(self, scope: Mapping[str, Any]) -> Actor:
        return self.actor(UserId(scope["user"]), ActorKind.TOKEN)


def gate_of(rig: Rig, **parts: Any) -> KnownGate:
    return KnownGate(
        owner=user_name(os.getuid()),
        store=rig.store,
        find_job=rig.controller.service.job,
        clock=lambda: 1.0,
        **parts,
    )


def test_every_route_has_a_rule_and_passes_the_gate(rig: Rig) -> None:
    routes = rig.controller.app.routes
    assert len(routes) == len(RULES)
    for route in routes:
        # FastAPI's own pages are plain routes: one that comes back would be noticed here.
        assert isinstance(route, APIRoute), route
        assert type(route).__name__ == "GuardedRoute", route.path
        for method in route.methods or ():
            assert (method, route.path) in RULES


def test_a_route_without_a_rule_cannot_be_built(rig: Rig) -> None:
    with pytest.raises(KeyError, match="/v1/backdoor"):
        rig.controller.app.add_api_route("/v1/backdoor", lambda: None, methods=["GET"])


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert peer_uid(left) == os.getuid()


@pytest.mark.parametrize("client", [None, ("127.0.0.1", 4242)])
def test_a_connection_without_credentials_is_denied(client: tuple[str, int] | None) -> None:
    with pytest.raises(DeniedError, match="does not say who asks"):
        user_of(client)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_who_reaches_the_socket_is_denied(rig: Rig) -> None:
    with rig.serving():
        path = Path(read_lock(rig.home)["socket"])
        # The folder keeps others out; here it is opened, so that only the credentials are left.
        path.parent.chmod(0o711)
        path.chmod(0o666)
        code = (
            "import os, socket, sys; os.setuid(4242)\n"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
            "s.sendall(b'GET /v1/hello HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')\n"
            "print(s.makefile().read())"
        )
        command = [sys.executable, "-I", "-S", "-c", code, str(path)]
        reply = subprocess.run(command, capture_output=True, text=True, check=True)
    assert reply.stdout.startswith("HTTP/1.1 403 ")
    assert "4242 (guest) may not status:read" in reply.stdout
    assert rig.store.audit(1)[0].user == "4242"


def test_a_user_id_without_a_name_is_its_number() -> None:
    assert user_name(4_000_000) == "4000000"


# ---------------------------------------------------------------- who


def test_who_runs_the_controller_is_its_admin_whatever_the_store_says(rig: Rig) -> None:
    myself = user_name(os.getuid())
    rig.store.save_member(Member(myself, Role.GUEST, ("ml",)))
    actor = rig.controller.gate.actor_of(me())
    assert actor == Actor(myself, ActorKind.LOCAL, Role.ADMIN, ("ml",))


def test_others_have_the_role_that_they_were_given_and_else_none(rig: Rig) -> None:
    rig.store.save_member(Member(UserId("4242"), Role.TEACHER, ("ml",)))
    assert rig.controller.gate.actor_of(STRANGER).role is Role.TEACHER
    assert rig.controller.gate.actor_of({"client": ("uid:4243", 0)}).role is Role.GUEST


def test_a_role_that_was_taken_away_is_gone_at_the_next_request(rig: Rig) -> None:
    gate, route = rig.controller.gate, RULES["GET", "/v1/nodes"]
    rig.store.save_member(Member(UserId("4242"), Role.STUDENT))
    gate.admit(route, STRANGER, {})
    rig.store.save_member(Member(UserId("4242"), Role.GUEST))
    with pytest.raises(DeniedError):
        gate.admit(route, STRANGER, {})


# ---------------------------------------------------------------- strangers


@pytest.mark.parametrize("route", NOT_OF_JOBS)
def test_a_stranger_is_denied_everywhere_and_it_is_written_down(
    rig: Rig, route: tuple[str, str]
) -> None:
    rule = RULES[route]
    with pytest.raises(DeniedError, match=rf"4242 \(guest\) may not {rule.action.value}") as caught:
        rig.controller.gate.admit(rule, STRANGER, {})
    assert caught.value.hint.startswith("ask ")
    row = rig.store.audit(1)[0]
    assert (row.user, row.action, row.is_allowed) == ("4242", rule.action.value, False)


@pytest.mark.parametrize("route", OF_JOBS)
def test_a_stranger_hears_the_same_of_a_job_that_is_there_and_of_one_that_is_not(
    rig: Rig, route: tuple[str, str]
) -> None:
    job = rig.submit()
    there, gone = (refusal(rig.controller.gate, route, STRANGER, key) for key in (job.id, "gone"))
    assert there == gone.replace("gone", job.id)
    assert there.startswith("DeniedError: 4242 (guest) may not ")
    assert ME not in there
    assert [row.is_allowed for row in rig.store.audit(2)] == [False, False]


@pytest.mark.parametrize("route", OF_JOBS)
def test_a_member_cannot_tell_somebody_else_s_job_from_one_that_is_not_there(
    rig: Rig, route: tuple[str, str]
) -> None:
    job, missing = rig.submit(), "20200101-000000-abcdef"
    bob = {"user": "bob"}
    there, gone = (refusal(gate_of(rig), route, bob, key) for key in (job.id, missing))
    assert there == gone.replace(missing, job.id)
    assert there.startswith("UnknownNameError: no job is named ")
    rows = rig.store.audit(2, is_allowed=False)
    assert [row.resource for row in rows] == [f"job:{missing}", f"job:{job.id}"]


def test_who_may_look_at_a_job_hears_why_they_may_not_do_more(rig: Rig) -> None:
    rig.store.save_member(Member(BOB, Role.STUDENT, ("ml",)))
    rig.store.save_member(Member(ME, Role.TEACHER, ("ml",)))
    job = rig.controller.service.submit(fake_spec(), BOB)
    gate, teacher = gate_of(rig), {"user": ME}
    for path in ("/events", "/cancel"):
        method = "GET" if path == "/events" else "POST"
        rule = RULES[method, "/v1/jobs/{key}" + path]
        assert gate.admit(rule, teacher, {"key": job.id}).job == job
    rule = RULES["POST", "/v1/jobs/{key}/cells"]
    with pytest.raises(DeniedError, match=r"ada \(teacher\) may not job:execute") as caught:
        gate.admit(rule, teacher, {"key": job.id})
    assert caught.value.hint == "ask bob"


def test_a_name_finds_only_one_s_own_jobs(rig: Rig) -> None:
    job = rig.submit(name="mnist")
    assert rig.controller.service.job("mnist", ME).id == job.id
    with pytest.raises(UnknownNameError):
        gate_of(rig).admit(RULES["GET", "/v1/jobs/{key}"], {"user": "bob"}, {"key": "mnist"})


def test_what_a_stranger_names_does_not_fill_the_audit(rig: Rig) -> None:
    with pytest.raises(DeniedError):
        rig.controller.gate.admit(RULES["GET", "/v1/jobs/{key}"], STRANGER, {"key": "x" * 60_000})
    assert len(rig.store.audit(1)[0].resource) < 250


# ---------------------------------------------------------------- secrets

KEY = SecretInfo("key", ME, SecretClass.BROKER, 1, 0.0, 0.0, 32)
SECRET_RULES = {
    action: Rule(action, "secret") for action in Action if action.value.startswith("secret:")
}


def find_secret(owner: UserId, name: str) -> SecretInfo:
    if (owner, name) != (KEY.owner, KEY.name):
        raise UnknownNameError.among("secret", name, [KEY.name])
    return KEY


def test_an_owner_is_admitted_to_their_secret(rig: Rig) -> None:
    gate = gate_of(rig, find_secret=find_secret)
    for rule in SECRET_RULES.values():
        admission = gate.admit(rule, {"user": ME}, {"owner": ME, "name": "key"})
        assert admission.secret == KEY
    with pytest.raises(UnknownNameError) as caught:
        gate.admit(SECRET_RULES[Action.SECRET_USE], {"user": ME}, {"owner": ME, "name": "kez"})
    assert caught.value.hint == "did you mean key?"


@pytest.mark.parametrize("action", SECRET_RULES, ids=lambda action: action.value)
def test_somebody_else_s_secret_is_as_if_it_were_not_there(rig: Rig, action: Action) -> None:
    gate = gate_of(rig, find_secret=find_secret)
    said = []
    for name in ("key", "kez"):
        with pytest.raises(UnknownNameError) as caught:
            gate.admit(SECRET_RULES[action], {"user": "bob"}, {"owner": ME, "name": name})
        said.append(str(caught.value).replace(repr(name), "NAME"))
        assert not rig.store.audit(1)[0].is_allowed
    assert said[0] == said[1]


def test_a_share_opens_what_it_says_and_the_rest_says_whom_to_ask(rig: Rig) -> None:
    shared = replace(KEY, shares=(Share("user:bob"),))
    gate = gate_of(rig, find_secret=lambda _owner, _name: shared)
    bob, path = {"user": "bob"}, {"owner": ME, "name": "key"}
    assert gate.admit(SECRET_RULES[Action.SECRET_USE], bob, path).secret == shared
    with pytest.raises(DeniedError, match=r"bob \(student\) may not secret:read") as caught:
        gate.admit(SECRET_RULES[Action.SECRET_READ], bob, path)
    assert caught.value.hint == "ask ada"


def test_an_admin_lists_the_secrets_of_others_and_does_not_read_them(rig: Rig) -> None:
    rig.store.save_member(Member(UserId("eve"), Role.ADMIN))
    gate = gate_of(rig, find_secret=find_secret)
    eve, path = {"user": "eve"}, {"owner": ME, "name": "key"}
    assert gate.admit(SECRET_RULES[Action.SECRET_LIST], eve, path).secret == KEY
    for action in (Action.SECRET_READ, Action.SECRET_SET, Action.SECRET_SHARE):
        with pytest.raises(DeniedError):
            gate.admit(SECRET_RULES[action], eve, path)


# ---------------------------------------------------------------- written down


def make_gate(store: FullStore, key: bytes | None = None) -> Gate:
    def no_job(key: str, owner: UserId) -> Job:
        raise AssertionError((key, owner))

    return Gate(
        owner=user_name(os.getuid()),
        store=store,
        find_job=no_job,
        clock=lambda: 1.0,
        audit_key=lambda: key,
    )


def rule(audit: Audit) -> Rule:
    return Rule(Action.JOB_SUBMIT, "jobs", audit)


def test_an_allowed_request_is_in_the_audit_before_it_is_done() -> None:
    store = FullStore()
    admission = make_gate(store).admit(rule(Audit.FIRST), me(), {})
    assert admission.actor.user == user_name(os.getuid())
    assert [row.is_allowed for row in store.audit(9)] == [True]


def test_the_audit_is_sealed_with_the_vault_s_key_while_there_is_one() -> None:
    store = FullStore()
    make_gate(store).admit(rule(Audit.FIRST), me(), {})
    make_gate(store, b"key").admit(rule(Audit.FIRST), me(), {})
    assert [row.is_sealed for row in store.audit(9)] == [True, False]
    assert store.verify_audit([b"key"]).is_good
    assert not store.verify_audit([b"another"]).is_good


def test_polling_is_not_written_down_but_its_denial_is() -> None:
    store = FullStore()
    gate = make_gate(store)
    gate.admit(rule(Audit.DENIED_ONLY), me(), {})
    assert store.audit(9) == []
    with pytest.raises(DeniedError):
        gate.admit(rule(Audit.DENIED_ONLY), STRANGER, {})
    assert len(store.audit(9)) == 1


def test_on_a_full_disk_nothing_new_is_done_but_old_things_can_be_ended() -> None:
    store = FullStore()
    gate = make_gate(store)
    store.is_full = True
    with pytest.raises(StorageError):
        gate.admit(rule(Audit.FIRST), me(), {})
    gate.admit(rule(Audit.LATE), me(), {"key": "late"})
    with pytest.raises(DeniedError):
        gate.admit(rule(Audit.LATE), STRANGER, {"key": "denied"})
    store.is_full = False
    gate.admit(rule(Audit.LATE), me(), {"key": "later"})
    assert [row.resource for row in store.audit(9)] == ["jobs:later", "jobs:denied", "jobs:late"]
    assert store.verify_audit([]).is_good


def test_what_changes_the_most_is_audited_first() -> None:
    assert RULES["POST", "/v1/jobs"].audit is Audit.FIRST
    assert RULES["POST", "/v1/jobs/{key}/cancel"].audit is Audit.LATE


def refusal(gate: Gate, route: tuple[str, str], scope: Mapping[str, Any], key: str) -> str:
    """Return the whole error that a request for this job gets."""
    with pytest.raises((DeniedError, UnknownNameError)) as caught:
        gate.admit(RULES[route], scope, {"key": key})
    return f"{type(caught.value).__name__}: {caught.value}"
