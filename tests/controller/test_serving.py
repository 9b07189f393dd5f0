"""Others are served, or not any more: what that takes, and what it changes for everybody."""

from __future__ import annotations

import os
import socket
import stat
import time
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client.login import read_fingerprint
from jupyter_aios.controller.access import user_name
from jupyter_aios.controller.secrets import SYSTEM
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.rights import FrontStatus, FrontWish
from jupyter_aios.core.safe import KeyKind, SecretPut, VaultKey, wrapped
from jupyter_aios.core.secrets import Secret
from jupyter_aios.core.wire import from_plain
from jupyter_aios.errors import (
    AiosError,
    DeniedError,
    InputError,
    LockedError,
    StateError,
    UnavailableError,
    UnknownNameError,
)
from tests.controller.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RUNS = user_name(os.getuid())
HERE = FrontWish("127.0.0.1", 0)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home")
    rig.open_vault()
    yield rig
    rig.controller.close()


def refusal(act: Callable[[], object]) -> AiosError:
    with pytest.raises(AiosError) as caught:
        act()
    return caught.value


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nobody_else_is_served_until_it_is_asked_for(rig: Rig) -> None:
    status = from_plain(FrontStatus, rig.ask(os.getuid(), "GET", "/v1/front").json())
    assert status == FrontStatus(is_open=False)
    assert not rig.controller.launching.permits


def test_serving_takes_the_open_vault(rig: Rig) -> None:
    rig.controller.keeper.lock()
    assert isinstance(refusal(lambda: rig.controller.serving.open(HERE)), LockedError)
    assert not rig.controller.serving.is_open
    assert not rig.controller.launching.permits


def test_an_open_front_says_where_it_is_and_has_every_launch_permitted(rig: Rig) -> None:
    rig.controller.gate.last_request_at = time.monotonic() - 3600
    assert rig.controller.idle_s > 3000
    status = rig.controller.serving.open(HERE)
    assert (status.is_open, status.host) == (True, "127.0.0.1")
    assert status.url == f"https://127.0.0.1:{status.port}"
    assert len(read_fingerprint(status.fingerprint)) == 64
    assert status.warning == "jobs run under this account and can read the vault's key file"
    assert is_listening(status.port)
    assert rig.controller.launching.permits
    assert rig.controller.idle_s == 0  # it does not end while others count on it
    assert rig.controller.serving.status() == status


def test_asking_again_changes_nothing_and_elsewhere_is_too_much(rig: Rig) -> None:
    serving = rig.controller.serving
    status = serving.open(HERE)
    assert serving.open(HERE) == status
    assert serving.open(FrontWish("127.0.0.1", status.port)) == status
    for wish in (FrontWish("127.0.0.1", status.port + 1), FrontWish("localhost", status.port)):
        error = refusal(lambda wish=wish: serving.open(wish))  # type: ignore[misc]
        assert isinstance(error, StateError)
        assert error.message == f"{status.url} is served already"
    assert serving.status() == status


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none_is_refused(rig: Rig, port: int) -> None:
    error = refusal(lambda: rig.controller.serving.open(FrontWish("127.0.0.1", port)))
    assert isinstance(error, InputError)
    assert error.message == f"--port {port}: 0 to 65535"


def test_an_address_that_is_not_this_machine_s_or_taken_is_told(rig: Rig) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for host, told in (("192.0.2.1", "Cannot assign"), ("127.0.0.1", "already in use")):
            error = refusal(lambda h=host: rig.controller.serving.open(FrontWish(h, port)))  # type: ignore[misc]
            assert isinstance(error, InputError)
            assert error.message.startswith(f"{host}:{port} cannot be listened at: ")
            assert told in error.message
    assert not rig.controller.launching.permits
    error = refusal(lambda: rig.controller.serving.open(FrontWish("127.0.0.1", 0, ("a b",))))
    assert "'a b' is no host name or address" in error.message


def test_a_front_closes_and_opens_again_with_the_same_certificate(rig: Rig) -> None:
    serving = rig.controller.serving
    first = serving.open(HERE)
    client = rig.log_in("bob")
    assert client.hello().asker == "bob"
    assert serving.close() == FrontStatus(is_open=False)
    assert serving.close() == FrontStatus(is_open=False)
    assert not is_listening(first.port)
    assert not rig.controller.launching.permits
    assert not client.is_running()
    assert isinstance(refusal(client.hello), UnavailableError)
    again = serving.open(FrontWish("127.0.0.1", first.port))
    assert again == first
    assert client.hello().asker == "bob"


def test_an_admin_elsewhere_closes_the_front_and_is_still_told_so(rig: Rig) -> None:
    first = rig.controller.serving.open(HERE)
    admin = rig.log_in(RUNS)
    assert admin.safe.close_front() == FrontStatus(is_open=False)
    assert not rig.controller.serving.is_open
    # The port is free again by then.
    assert rig.controller.serving.open(FrontWish("127.0.0.1", first.port)) == first
    assert admin.hello().asker == RUNS


def test_the_certificate_is_the_same_after_a_restart_and_lies_in_the_vault_only(rig: Rig) -> None:
    first = rig.controller.serving.open(HERE)
    key = rig.controller.keeper.open_vault().get(SYSTEM, "tls-certificate").reveal()
    assert b"BEGIN PRIVATE KEY" in key
    for path in rig.home.rglob("*"):
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.name.startswith("store")
            assert key.splitlines()[-3] not in path.read_bytes(), path
    rig.restart()
    assert not is_listening(first.port)
    rig.open_vault()
    assert rig.controller.serving.open(HERE).fingerprint == first.fingerprint
    rig.controller.serving.close()
    renamed = rig.controller.serving.open(FrontWish("127.0.0.1", 0, ("hub.example", "127.0.0.1")))
    assert renamed.fingerprint != first.fingerprint
    assert renamed.url.startswith("https://hub.example:")


def test_only_an_admin_opens_or_closes_the_front(rig: Rig) -> None:
    rig.store.save_member(Member(user_name(4001), Role.TEACHER))
    assert rig.ask(4001, "POST", "/v1/front", HERE).status == 403
    assert not rig.controller.serving.is_open
    opened = rig.ask(os.getuid(), "POST", "/v1/front", HERE)
    assert from_plain(FrontStatus, opened.json()).is_open
    assert rig.ask(4001, "DELETE", "/v1/front").status == 403
    assert rig.ask(4001, "GET", "/v1/front").json() == opened.json()
    assert rig.ask(os.getuid(), "DELETE", "/v1/front").status == 200
    assert not rig.controller.serving.is_open


def test_who_comes_over_tls_is_whom_the_token_names_and_nobody_more(rig: Rig) -> None:
    student, admin = rig.log_in("bob"), rig.log_in(RUNS)
    assert (student.hello().asker, student.hello().role) == ("bob", "student")
    assert (admin.hello().asker, admin.hello().role) == (RUNS, "admin")
    for act in (
        student.shutdown,
        student.safe.lock,
        student.safe.restore_vault,
        student.safe.audit_head,
        student.safe.close_front,
        lambda: student.safe.unlock(VaultKey(KeyKind.PASSPHRASE, "x")),
    ):
        assert isinstance(refusal(act), DeniedError)
    assert rig.controller.keeper.is_open
    rows = rig.store.audit(1, user=user_name(os.getuid()), is_allowed=True)
    assert rows[0].action == "status:read"


def test_secrets_are_kept_and_seen_over_tls_as_they_are_here(rig: Rig) -> None:
    bob, ada = rig.log_in("bob"), rig.log_in("ada")
    info = ada.safe.put_secret("TOKEN", SecretPut(wrapped(Secret("value"))))
    assert (info.owner, info.version) == ("ada", 1)
    assert [row.info.name for row in ada.safe.secrets()] == ["TOKEN"]
    assert bob.safe.secrets() == []
    error = refusal(lambda: bob.safe.remove_secret("ada", "TOKEN"))
    assert isinstance(error, UnknownNameError)
    for owner in (SYSTEM, "controller:x"):
        assert isinstance(
            refusal(lambda o=owner: ada.safe.remove_secret(o, "tls-certificate")),  # type: ignore[misc]
            UnknownNameError,
        )
    assert rig.controller.keeper.open_vault().info(SYSTEM, "tls-certificate").version == 1
