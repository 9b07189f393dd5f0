from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute

from jupyter_aios.controller.access import RULES, Audit, Gate, Rule, user_name, user_of
from jupyter_aios.core.policy import Action
from jupyter_aios.errors import DeniedError, StorageError
from jupyter_aios.training.peers import peer_uid, read_lock
from tests.controller.rig import ME, FullStore, Rig

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job, UserId

STRANGER = ("uid:4242", 0)


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "home")


def me() -> tuple[str, int]:
    return (f"uid:{os.getuid()}", 0)


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
    assert "you are 4242" in reply.stdout
    assert rig.store.audit(1)[0].user == "4242"


def test_a_user_id_without_a_name_is_its_number() -> None:
    assert user_name(4_000_000) == "4000000"


@pytest.mark.parametrize("route", [route for route in RULES if RULES[route].kind != "job"])
def test_a_stranger_is_denied_everywhere_and_it_is_written_down(
    rig: Rig, route: tuple[str, str]
) -> None:
    with pytest.raises(DeniedError, match="you are 4242"):
        rig.controller.gate.admit(RULES[route], STRANGER, "")
    row = rig.store.audit(1)[0]
    assert (row.user, row.action, row.is_allowed) == ("4242", RULES[route].action.value, False)


@pytest.mark.parametrize("route", [route for route in RULES if RULES[route].kind == "job"])
def test_a_stranger_is_denied_every_job_by_its_id(rig: Rig, route: tuple[str, str]) -> None:
    job = rig.submit()
    with pytest.raises(DeniedError, match="is for its owner, ada; you are 4242"):
        rig.controller.gate.admit(RULES[route], STRANGER, job.id)
    assert rig.store.audit(1)[0].resource == f"job:{job.id}"


def make_gate(store: FullStore) -> Gate:
    def no_job(key: str, owner: UserId) -> Job:
        raise AssertionError((key, owner))

    return Gate(owner=user_name(os.getuid()), store=store, find_job=no_job, clock=lambda: 1.0)


def rule(audit: Audit) -> Rule:
    return Rule(Action.JOB_SUBMIT, "jobs", audit)


def test_an_allowed_request_is_in_the_audit_before_it_is_done() -> None:
    store = FullStore()
    admission = make_gate(store).admit(rule(Audit.FIRST), me(), "")
    assert admission.actor.user == user_name(os.getuid())
    assert [row.is_allowed for row in store.audit(9)] == [True]


def test_polling_is_not_written_down_but_its_denial_is() -> None:
    store = FullStore()
    gate = make_gate(store)
    gate.admit(rule(Audit.DENIED_ONLY), me(), "")
    assert store.audit(9) == []
    with pytest.raises(DeniedError):
        gate.admit(rule(Audit.DENIED_ONLY), STRANGER, "")
    assert len(store.audit(9)) == 1


def test_on_a_full_disk_nothing_new_is_done_but_old_things_can_be_ended() -> None:
    store = FullStore()
    gate = make_gate(store)
    store.is_full = True
    with pytest.raises(StorageError):
        gate.admit(rule(Audit.FIRST), me(), "")
    gate.admit(rule(Audit.LATE), me(), "late")
    with pytest.raises(DeniedError):
        gate.admit(rule(Audit.LATE), STRANGER, "denied")
    store.is_full = False
    gate.admit(rule(Audit.LATE), me(), "later")
    assert [row.resource for row in store.audit(9)] == ["jobs:later", "jobs:denied", "jobs:late"]


def test_what_changes_the_most_is_audited_first() -> None:
    assert RULES["POST", "/v1/jobs"].audit is Audit.FIRST
    assert RULES["POST", "/v1/jobs/{key}/cancel"].audit is Audit.LATE


def test_the_owner_is_found_by_name_only_among_their_own(rig: Rig) -> None:
    job: Any = rig.submit(name="mnist")
    assert rig.controller.service.job("mnist", ME).id == job.id
