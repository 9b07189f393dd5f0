"""The client of a controller elsewhere: real TLS, and servers that are not who they should be."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import stat
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client, remote
from jupyter_aios.client.login import Login, forget_login, read_fingerprint, read_login, save_login
from jupyter_aios.controller.certificates import make_certificate, server_context
from jupyter_aios.controller.tokens import new_token
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, Outcome
from jupyter_aios.core.rights import FrontWish, TokenWish
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import (
    AiosError,
    DeniedError,
    InputError,
    StateError,
    StorageError,
    UnavailableError,
)
from tests.controller.rig import BLOB, SOURCE, Rig, fake_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TOKEN = new_token().reveal().decode()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home")
    rig.open_vault()
    # As in a controller of one's own: both ways in are open.
    with rig.serving():
        yield rig
        rig.controller.serving.close()
    rig.controller.close()


def refusal(act: Callable[[], object]) -> AiosError:
    with pytest.raises(AiosError) as caught:
        act()
    return caught.value


def login_of(rig: Rig, user: str = "bob", valid_s: float = 3600.0) -> Login:
    status = rig.controller.serving.open(FrontWish("127.0.0.1", 0))
    token = rig.rights.issue_token(UserId(user), TokenWish(valid_s)).token
    return Login(status.url, read_fingerprint(status.fingerprint), token)


def client_of(login: Login, home: Path) -> Client:
    return Client.of_login(home, login)


# ------------------------------------------------------------------------ what it can do


def test_a_student_elsewhere_works_as_one_here(rig: Rig, tmp_path: Path) -> None:
    bob = client_of(login_of(rig), tmp_path / "laptop")
    assert bob.is_running()
    assert (bob.hello().asker, bob.hello().role) == ("bob", "student")
    assert len(bob.nodes()) == 4
    missing = "0" * 64
    assert bob.missing_blobs([BLOB, missing]) == [missing]  # type: ignore[list-item]
    bob.put_blob(BLOB, SOURCE)
    (tmp_path / "train.py").write_bytes(SOURCE)
    bob.put_blob(BLOB, tmp_path / "train.py")
    assert bob.dry_run(fake_spec()).ranks
    job = bob.submit(fake_spec(name="mnist"))
    assert job.owner == "bob"
    rig.turn()
    ref = AttemptRef(job.id, 1)
    rig.fake.advance(ref, AttemptPhase.RUNNING)
    rig.turn()
    rig.fake.emit(ref, 0, "hello")
    reply = bob.events("mnist", {}, wait_s=5.0)
    assert [event.text for event in reply.batch.events if event.text] == ["hello"]
    rig.fake.attempt(ref).leave("model", b"x" * 2**20)
    rig.fake.attempt(ref).end(Outcome.SUCCEEDED)
    rig.turn()
    assert bob.job("mnist").state is JobState.SUCCEEDED
    assert [step.new for step in bob.history("mnist")][-1] is JobState.SUCCEEDED
    bob.fetch_result("mnist", "model", tmp_path / "model")
    assert (tmp_path / "model").read_bytes() == b"x" * 2**20
    assert [found.id for found in bob.jobs()] == [job.id]
    assert rig.controller.launching.permits


def test_errors_come_over_as_the_classes_that_they_are(rig: Rig, tmp_path: Path) -> None:
    bob = client_of(login_of(rig), tmp_path)
    bob.submit(fake_spec(name="mnist"))
    error = refusal(lambda: bob.submit(fake_spec(name="mnist")))
    assert isinstance(error, StateError)
    assert "%aios cancel mnist" in error.hint
    bob.cancel("mnist")
    assert isinstance(refusal(bob.shutdown), DeniedError)


def test_a_file_that_cannot_be_written_here_is_no_lost_connection(rig: Rig, tmp_path: Path) -> None:
    bob = client_of(login_of(rig), tmp_path)
    job = bob.submit(fake_spec())
    rig.turn()
    ref = AttemptRef(job.id, 1)
    rig.fake.attempt(ref).leave("model", b"x")
    target = tmp_path / "no folder" / "model"
    error = refusal(lambda: bob.fetch_result(job.id, "model", target))
    assert isinstance(error, StorageError)


# ------------------------------------------------------------------------ tokens


def test_a_token_is_refused_from_the_request_after_its_end_on(rig: Rig, tmp_path: Path) -> None:
    bob = client_of(login_of(rig, valid_s=60.0), tmp_path)
    rig.fake.machine.now += 59
    assert bob.hello().asker == "bob"
    rig.fake.machine.now += 3
    error = refusal(bob.hello)
    assert isinstance(error, DeniedError)
    assert "expired 2.0 s ago" in error.message
    assert error.hint == "%aios login URL"


def test_a_revoked_token_is_refused_at_the_next_request(rig: Rig, tmp_path: Path) -> None:
    login = login_of(rig)
    bob = client_of(login, tmp_path)
    (row,) = bob.safe.tokens()
    assert bob.hello().asker == "bob"
    bob.safe.revoke_token(row.id)
    error = refusal(bob.hello)
    assert isinstance(error, DeniedError)
    assert error.message == f"the token {row.id} was revoked"


def test_a_role_that_was_taken_away_is_gone_at_the_next_request(rig: Rig, tmp_path: Path) -> None:
    bob = client_of(login_of(rig), tmp_path)
    bob.nodes()
    rig.store.save_member(Member(UserId("bob"), Role.GUEST))
    assert "bob (guest) may not node:read" in refusal(bob.nodes).message


def test_a_token_that_nobody_has_is_refused_and_not_repeated(rig: Rig, tmp_path: Path) -> None:
    login = replace(login_of(rig), token=TOKEN)
    error = refusal(client_of(login, tmp_path).hello)
    assert isinstance(error, DeniedError)
    assert error.message == "nobody has this token"
    last = "a" if TOKEN[-1] != "a" else "b"
    error = refusal(client_of(replace(login, token=TOKEN[:-1] + last), tmp_path).hello)
    assert error.message.startswith("the token is mistyped")
    for said in (error.message, repr(login), str(rig.store.audit(99))):
        assert TOKEN[:12] not in said


@pytest.mark.parametrize(
    "token",
    ["", "a b", f"{TOKEN}\nX-Evil: 1", "漢字", TOKEN + "\x7f"],
    # Not the tokens: they are other ones in each worker.
    ids=["empty", "blank", "line", "letters", "control"],
)
def test_what_no_header_can_carry_is_refused_before_anything_is_sent(
    tmp_path: Path, token: str
) -> None:
    login = Login("https://127.0.0.1:1", "ab" * 32, token)
    error = refusal(lambda: client_of(login, tmp_path))
    assert isinstance(error, InputError)
    assert error.message == "that is no token: aios_…"


# ------------------------------------------------------------------------ who is at the other end


class Impostor:
    """A server that speaks TLS with a certificate of its own and notes what it is told."""

    def __init__(self, answer: bytes = b"", *, hangs: bool = False) -> None:
        self.heard: list[bytes] = []
        self._answer, self._hangs = answer, hangs
        self._may_end = threading.Event()
        self.certificate = make_certificate(["127.0.0.1"], now=time.time())
        self._context = server_context(self.certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def login(self, fingerprint: str | None = None) -> Login:
        own = read_fingerprint(self.certificate.fingerprint)
        return Login(self.url, own if fingerprint is None else fingerprint, TOKEN)

    def _serve(self) -> None:
        while True:
            plain, _ = self._listener.accept()
            with plain:
                plain.settimeout(20)
                if self._may_end.is_set():
                    return
                with contextlib.suppress(OSError):
                    self._talk(plain)

    def _talk(self, plain: socket.socket) -> None:
        with self._context.wrap_socket(plain, server_side=True) as secured:
            self.heard.append(secured.recv(65_536))
            if self._hangs:
                self._may_end.wait(20)
            secured.sendall(self._answer)
            # Gone without a word, as a machine that loses its power.
            socket.socket.shutdown(secured, socket.SHUT_RDWR)

    def close(self) -> None:
        self._may_end.set()
        with contextlib.suppress(OSError):
            socket.create_connection(self._listener.getsockname()[:2]).close()
        self._thread.join()
        self._listener.close()


@pytest.fixture
def impostor() -> Iterator[Impostor]:
    server = Impostor()
    yield server
    server.close()


def test_another_certificate_is_refused_before_the_token_is_sent(
    impostor: Impostor, tmp_path: Path
) -> None:
    client = client_of(impostor.login("ab" * 32), tmp_path)
    for act in (client.hello, lambda: client.put_blob(BLOB, SOURCE), client.is_running):
        error = refusal(act)
        assert isinstance(error, DeniedError)
        assert "shows another certificate than the one you logged in to" in error.message
        shown = read_fingerprint(impostor.certificate.fingerprint)[:16]
        assert f"(sha256:{shown}…)" in error.message
        assert "--fingerprint" in error.hint
    impostor.close()
    # Bytes, if any, are of nothing: the connection was closed after the handshake.
    assert b"".join(impostor.heard) == b""


def test_with_the_right_fingerprint_it_would_have_been_told(
    impostor: Impostor, tmp_path: Path
) -> None:
    # So the test above looks in the right place.
    assert isinstance(refusal(client_of(impostor.login(), tmp_path).hello), UnavailableError)
    assert TOKEN.encode() in b"".join(impostor.heard)


def test_without_a_fingerprint_an_authority_has_to_vouch(
    impostor: Impostor, tmp_path: Path
) -> None:
    error = refusal(client_of(impostor.login(""), tmp_path).hello)
    assert isinstance(error, DeniedError)
    assert error.message.startswith(f"no authority vouches for {impostor.url}: self")
    assert error.hint == ("%aios login URL --fingerprint sha256:… (`jupyter aios serve` prints it)")
    impostor.close()
    assert b"".join(impostor.heard) == b""


def test_where_an_authority_vouches_no_fingerprint_is_needed(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.fake.machine.now = time.time()
    login = login_of(rig)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    port = rig.controller.serving.status().port
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    (tmp_path / "ca.pem").write_text(ssl.DER_cert_to_PEM_cert(shown))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    bob = client_of(replace(login, fingerprint=""), tmp_path)
    assert bob.hello().asker == "bob"
    # And the name has to be right.
    other = replace(login, fingerprint="", url=login.url.replace("127.0.0.1", "localhost"))
    error = refusal(client_of(other, tmp_path).hello)
    assert isinstance(error, DeniedError)
    assert "localhost" in error.message


def test_a_server_that_is_gone_is_told_with_what_to_look_for(rig: Rig, tmp_path: Path) -> None:
    login = login_of(rig)
    bob = client_of(login, tmp_path)
    rig.controller.serving.close()
    error = refusal(bob.hello)
    assert isinstance(error, UnavailableError)
    assert error.message.startswith(f"{login.url} cannot be reached: ")
    assert error.hint == "is `jupyter aios serve` running there?"
    assert not bob.is_running()


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"no"]
)
def test_a_server_that_breaks_off_is_asked_three_times_and_then_told(
    tmp_path: Path, answer: bytes
) -> None:
    server = Impostor(answer)
    try:
        error = refusal(client_of(server.login(), tmp_path).hello)
        assert isinstance(error, UnavailableError)
        assert error.message.startswith(f"{server.url} did not answer: ")
        assert TOKEN not in str(error)
    finally:
        server.close()
    assert len(server.heard) == 3


def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "REPLY_DEADLINE_S", 0.2)
    server = Impostor(hangs=True)
    try:
        error = refusal(client_of(server.login(), tmp_path).hello)
        assert isinstance(error, UnavailableError)
        assert "timed out" in error.message
    finally:
        server.close()
    assert len(server.heard) == 1


# ------------------------------------------------------------------------ logins that are kept


def test_a_login_is_kept_for_its_user_only_until_it_is_forgotten(tmp_path: Path) -> None:
    login = Login("https://hub:8443", "ab" * 32, TOKEN)
    assert read_login(tmp_path / "home") is None
    path = save_login(tmp_path / "home", login)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert read_login(tmp_path / "home") == login
    newer = replace(login, token=TOKEN[::-1])
    save_login(tmp_path / "home", newer)
    assert read_login(tmp_path / "home") == newer
    assert [found.name for found in (tmp_path / "home").iterdir()] == ["login.json"]
    assert forget_login(tmp_path / "home")
    assert not forget_login(tmp_path / "home")
    assert read_login(tmp_path / "home") is None
    assert TOKEN not in repr(login)


def test_a_home_that_is_logged_in_asks_there(rig: Rig, tmp_path: Path) -> None:
    save_login(tmp_path / "laptop", login_of(rig))
    assert Client(tmp_path / "laptop").hello().asker == "bob"
    assert Client(tmp_path / "laptop").hello().home == str(rig.home)
    forget_login(tmp_path / "laptop")
    assert not Client(tmp_path / "laptop").is_running()


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '"x"', "{}", json.dumps({"url": TOKEN, "token": TOKEN}), "\ud800"],
    ids=["empty", "cut", "list", "null", "text", "nothing", "half", "bytes"],
)
def test_a_login_file_that_is_none_is_told_without_what_it_holds(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / "login.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    error = refusal(lambda: Client(tmp_path))
    assert isinstance(error, InputError)
    assert error.message == f"{tmp_path / 'login.json'} cannot be read: it is no login"
    assert error.hint == "%aios login URL"


@pytest.mark.parametrize(
    "url",
    ["http://hub", "hub:8443", "", "https://", "https://hub:99999", "https://hub:x", "ftp://hub"],
)
def test_an_address_that_is_none_is_told(tmp_path: Path, url: str) -> None:
    error = refusal(lambda: client_of(Login(url, "", TOKEN), tmp_path))
    assert isinstance(error, InputError)
    assert error.message == f"{url!r} is no https:// address"


def test_a_fingerprint_is_read_however_people_copy_it() -> None:
    plain = "0123456789abcdef" * 4
    pairs = [plain[at : at + 2] for at in range(0, 64, 2)]
    for text in (plain, f"sha256:{plain}", f"SHA256:{':'.join(pairs).upper()}", f" {plain}\n"):
        assert read_fingerprint(text) == plain
    for text in ("", "sha256:", plain[:-1], plain + "0", "g" * 64, f"sha1:{plain}"):
        with pytest.raises(InputError, match="is no SHA-256 fingerprint"):
            read_fingerprint(text)
