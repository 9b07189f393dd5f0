"""The front for people elsewhere: real sockets, real TLS, and those who try without."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.controller.certificates import (
    LIFE_S,
    RENEWAL_S,
    Certificate,
    kept_certificate,
    make_certificate,
    server_context,
)
from jupyter_aios.controller.tls import serve_tls
from jupyter_aios.controller.tokens import MAX_WRONG, bearer, new_token, token_hash, wrong_token
from jupyter_aios.errors import DeniedError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from starlette.types import Receive, Scope, Send

    from jupyter_aios.core.secrets import Secret

NAMES = ("localhost", "127.0.0.1", "::1")
GOOD, EXPIRED, UNKNOWN = (new_token().reveal().decode() for _ in range(3))


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what the front let through, as a gate would see it."""
    del receive
    known = {token_hash(GOOD): 2e9, token_hash(EXPIRED): 1.0}
    ends_at = known.get(token_hash(bearer(scope["headers"])))
    status, told = 200, json.dumps({"client": scope["client"], "scheme": scope["scheme"]})
    if ends_at is None:
        status, told = 403, wrong_token(scope, "nobody has this token").message
    elif ends_at < 1e9:
        status, told = 403, wrong_token(scope, "the token has expired").message
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": told.encode()})


@dataclass
class Served:
    port: int
    certificate: Certificate

    def context(self) -> ssl.SSLContext:
        """Return what a client trusts: this certificate and no other."""
        return ssl.create_default_context(cadata=self.certificate.pem.decode())

    def ask(
        self,
        token: str | None = GOOD,
        *,
        context: ssl.SSLContext | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[int, str, dict[str, str]]:
        """Return status, body and headers of the reply to one request."""
        sent = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=context or self.context(), timeout=20
        )
        with contextlib.closing(connection):
            connection.request("GET", "/v1/hello", headers={**sent, **headers})
            reply = connection.getresponse()
            return (
                reply.status,
                reply.read().decode(),
                {name.lower(): value for name, value in reply.getheaders()},
            )


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return make_certificate(NAMES, now=time.time())


@pytest.fixture
def served(certificate: Certificate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    # What uvicorn would let any client say of itself.
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    server = serve_tls(
        application, "127.0.0.1", 0, server_context(certificate), names=certificate.names
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + 20
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.005)
    try:
        yield Served(server.servers[0].sockets[0].getsockname()[1], certificate)
    finally:
        server.should_exit = True
        thread.join()


def error_of(body: str) -> DeniedError:
    told = json.loads(body)
    assert told["kind"] == "DeniedError"
    return DeniedError(told["message"], hint=told["hint"])


# ------------------------------------------------------------------------ what comes through


def test_a_request_with_a_token_comes_through_marked_as_no_peer(served: Served) -> None:
    status, body, headers = served.ask()
    told = json.loads(body)
    assert (status, told["scheme"]) == (200, "https")
    assert told["client"][0] == "tls:127.0.0.1"
    assert "x-aios-version" in headers
    assert "server" not in headers


def test_a_header_cannot_say_where_a_request_comes_from(served: Served) -> None:
    _, body, _ = served.ask(headers={"X-Forwarded-For": "uid:0", "X-Forwarded-Proto": "http"})
    told = json.loads(body)
    assert (told["client"][0], told["scheme"]) == ("tls:127.0.0.1", "https")


def test_a_client_knows_the_server_by_its_fingerprint(served: Served) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", served.port)) as plain,
        context.wrap_socket(plain) as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
        assert shown is not None
        assert served.certificate.fingerprint == "sha256:" + hashlib.sha256(shown).hexdigest()
        assert secured.version() == "TLSv1.3"


def test_openssl_shows_the_same_fingerprint(certificate: Certificate) -> None:
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    said = subprocess.run(command, input=certificate.pem, capture_output=True, check=True).stdout
    shown = said.decode().strip().partition("=")[2].replace(":", "").lower()
    assert certificate.fingerprint == f"sha256:{shown}"


# ------------------------------------------------------------------------ what does not


def test_another_certificate_is_refused_by_the_client(served: Served) -> None:
    other = make_certificate(NAMES, now=time.time())
    with pytest.raises(ssl.SSLCertVerificationError):
        served.ask(context=ssl.create_default_context(cadata=other.pem.decode()))
    assert served.ask()[0] == 200


def test_plain_http_gets_no_reply_and_does_no_harm(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as plain:
        request = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {GOOD}\r\n\r\n"
        plain.sendall(request.encode())
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := plain.recv(4096):
                said += chunk
    assert b"HTTP" not in said
    assert served.ask()[0] == 200


@pytest.mark.parametrize("weak", ["ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES128-SHA256"])
def test_weak_ciphers_are_refused(served: Served, weak: str) -> None:
    context = served.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert served.ask(context=context)[0] == 200
    context.set_ciphers(f"{weak}:@SECLEVEL=0")
    # asyncio hangs up without the alert that would say why.
    with pytest.raises(ssl.SSLError, match=r"EOF|FAILURE"):
        served.ask(context=context)


def test_tls_1_1_is_refused(served: Served) -> None:
    context = served.context()
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match=r"EOF|VERSION"):
        served.ask(context=context)


@pytest.mark.parametrize(
    ("token", "status", "told"),
    [
        (None, 401, "no token came with the request"),
        ("", 401, "came with the request is no token"),
        (GOOD[:-1], 401, "came with the request is no token"),
        (GOOD[:-1] + ("a" if GOOD[-1] != "a" else "b"), 401, "the token is mistyped"),
        (UNKNOWN, 403, "nobody has this token"),
        (EXPIRED, 403, "the token has expired"),
    ],
    # Not the tokens: they are other ones in each worker.
    ids=["none", "empty", "short", "mistyped", "unknown", "expired"],
)
def test_without_a_token_that_is_somebody_s_nothing_comes_through(
    served: Served, token: str | None, status: int, told: str
) -> None:
    got, body, headers = served.ask(token)
    assert (got, told in body) == (status, True), body
    assert (headers.get("www-authenticate") == "Bearer") is (status == 401)
    # No reply repeats what was shown.
    assert not token or token not in body


def test_a_web_page_is_refused_whatever_token_it_has(served: Served) -> None:
    for origin in ("https://evil.example", "null", f"https://localhost:{served.port}"):
        status, body, _ = served.ask(headers={"Origin": origin})
        assert (status, error_of(body).message) == (403, "this address is not for web pages")


def test_a_host_that_the_certificate_does_not_name_is_refused(served: Served) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "", "[::2]", "127.0.0.1, localhost"):
        status, body, _ = served.ask(headers={"Host": host})
        assert status == 421, host
        assert "127.0.0.1, ::1, localhost" in error_of(body).message
    for host in ("localhost", "LOCALHOST:443", f"127.0.0.1:{served.port}", "[::1]:8", "[0:0::1]"):
        assert served.ask(headers={"Host": host})[0] == 200, host


def test_two_host_headers_are_for_no_host(served: Served) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as plain,
        served.context().wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        hosts = "Host: localhost\r\nHost: localhost\r\n"
        secured.sendall(f"GET / HTTP/1.1\r\n{hosts}\r\n".encode())
        assert secured.recv(4096).split()[1] in (b"400", b"421")


def test_who_shows_many_wrong_tokens_has_to_wait_whatever_comes_then(served: Served) -> None:
    for _ in range(2 * MAX_WRONG):
        assert served.ask(EXPIRED)[0] == 403  # the same one again and again is no guessing
    for _ in range(MAX_WRONG - 1):
        assert served.ask(new_token().reveal().decode())[0] == 403
    for token in (GOOD, UNKNOWN, None):
        status, body, _ = served.ask(token)
        assert status == 429
        assert error_of(body).message == "too many wrong tokens came from 127.0.0.1"
        assert error_of(body).hint.startswith("try again in ")


# ------------------------------------------------------------------------ certificates and keys


def test_no_file_and_no_descriptor_with_the_key_is_left(
    certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = set(os.listdir("/proc/self/fd"))
    server_context(certificate)
    assert set(os.listdir("/proc/self/fd")) == before
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_memfd_the_file_is_private_and_goes(
    certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("jupyter_aios.controller.certificates.sys.platform", "darwin")
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def look_and_load(self: ssl.SSLContext, path: str) -> None:
        modes.append(Path(path).stat().st_mode & 0o777)
        load(self, path)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", look_and_load)
    server_context(certificate)
    assert modes == [0o600]
    assert list(tmp_path.iterdir()) == []


def test_a_certificate_is_kept_until_a_month_before_its_end_or_another_name() -> None:
    kept: list[Secret] = []

    def ask(now: float, *names: str) -> Certificate:
        load = kept[-1] if kept else None
        return kept_certificate(names, load=lambda: load, keep=kept.append, now=now)

    now = time.time()
    first = ask(now, "HOST.example", "::1")
    again = ask(now + LIFE_S - RENEWAL_S - 2, "0:0::1")
    assert (again.fingerprint, again.key) == (first.fingerprint, first.key)
    assert first.names == ("host.example", "::1")
    assert len(kept) == 1
    server_context(again)
    assert ask(now, "other.example", "::1").fingerprint != first.fingerprint
    newer = ask(now + LIFE_S - RENEWAL_S + 2, "other.example")
    assert newer.ends_at > now + LIFE_S
    assert len(kept) == 3


def test_a_certificate_and_its_key_show_nothing_of_the_key(certificate: Certificate) -> None:
    assert "Secret(…)" in repr(certificate)
    assert b"PRIVATE" not in certificate.pem


@pytest.mark.parametrize(
    "name", ["", "-x", "a b", "漢字", "*.example", "a..b", "x" * 64, "300.1.1.1", "a/b", "::g"]
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InputError) as caught:
        make_certificate(["localhost", name], now=0.0)
    assert repr(name) in caught.value.message


def test_all_names_that_are_none_are_told_at_once() -> None:
    with pytest.raises(InputError, match="2 faults"):
        make_certificate(["a b", "c d"], now=0.0)
    with pytest.raises(InputError, match="needs a host name or an address"):
        make_certificate([], now=0.0)
