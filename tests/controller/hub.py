"""A server that wants a bearer token, over real TLS with a CA of its own, and what asks it."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import http.client
import http.server
import ipaddress
import json
import shutil
import socket
import ssl
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jupyter_aios.controller.fetching import FetchProxy
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.secrets import Secret, SecretClass, SecretInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUE = "hub-7f3e9A1c-55d0Qx-token"
GATE_DEADLINE_S = 30.0


def blob(size: int) -> bytes:
    """Return what the hub has at /api/blob/SIZE: bytes without a pattern."""
    return hashlib.shake_128(str(size).encode()).digest(size)


@dataclass
class Seen:
    """A request as the hub got it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Hub:
    """The server. What lies below /api answers whoever has the token; the gate holds some back."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self.seen: list[Seen] = []
        self.broken: list[str] = []
        """Paths of requests that ended before their end."""
        self.gate = threading.Event()
        self.at_gate = 0
        self.elsewhere = ""
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self._scheme = "http"
        if context is not None:
            self._scheme = "https"
            # The handshake is left to each request's own thread.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{self._scheme}://{host}:{self.port}/api"

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    hub: Hub
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: callers that hang up are what some tests are about."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def handle_one_request(self) -> None:
        super().handle_one_request()
        self.close_connection = True

    def do_GET(self) -> None:
        hub = self.server.hub
        seen = Seen(self.command, self.path, list(self.headers.items()))
        hub.seen.append(seen)
        page, _, argument = self.path.partition("?")[0].removeprefix("/api/").partition("/")
        if page == "full":
            self._reply(507, b"no room")
            return
        try:
            seen.body = self._read_body()
        except (OSError, ValueError):
            hub.broken.append(self.path)
            raise
        if seen.header("Authorization") != [f"Bearer {VALUE}"]:
            self._reply(401, b"who are you?", {"WWW-Authenticate": "Bearer realm=hub"})
            return
        known = getattr(self, f"_page_{page}", None)
        if known is None:
            self._reply(404, f"nothing at {page}".encode())
            return
        try:
            known(argument)
        except OSError:
            hub.broken.append(self.path)
            raise

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = do_GET  # noqa: N815

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            size = int(self.headers.get("Content-Length", "0"))
            body = self.rfile.read(size)
            if len(body) < size:
                raise ValueError("too short")
            return body
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _page_blob(self, size: str) -> None:
        self._reply(200, blob(int(size)), {"ETag": f'"{size}"'})

    def _page_digest(self, _: str) -> None:
        self._reply(200, hashlib.sha256(self.server.hub.seen[-1].body).hexdigest().encode())

    def _page_echo(self, _: str) -> None:
        told = json.dumps(dict(self.headers.items())).encode()
        self._reply(200, told, {"X-Echo": self.headers["Authorization"]})

    def _page_echo64(self, padding: str) -> None:
        whole = padding.encode() + self.headers["Authorization"].encode()
        self._reply(200, base64.b64encode(whole))

    def _page_drip(self, _: str) -> None:
        """Echo, a byte in each chunk."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for byte in self.headers["Authorization"].encode():
            self.wfile.write(b"1\r\n%c\r\n" % byte)
        self.wfile.write(b"0\r\n\r\n")

    def _page_talk(self, _: str) -> None:
        """Say one thing, and the next when the gate opens."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"one ")
        self._wait()
        self.wfile.write(b"two")

    def _page_moved(self, _: str) -> None:
        self._reply(302, b"", {"Location": self.server.hub.elsewhere + "?signature=abc"})

    def _page_cookie(self, _: str) -> None:
        self._reply(200, b"sweet", {"Set-Cookie": "session=1", "Aios-Error": "LockedError"})

    def _page_packed(self, _: str) -> None:
        self._reply(200, b"\x1f\x8b", {"Content-Encoding": "gzip"})

    def _page_short(self, _: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b"only this")

    def _page_status(self, status: str) -> None:
        self._reply(int(status), b"x" * 1000)

    def _page_endless(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(100_000))

    def _page_wait(self, _: str) -> None:
        self._wait()
        self._reply(200, b"at last")

    def _wait(self) -> None:
        hub = self.server.hub
        hub.at_gate += 1
        assert hub.gate.wait(GATE_DEADLINE_S)


class Authority:
    """A certificate authority, and its file for SSL_CERT_FILE."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A school's own CA")])
        self.file = folder / "ca.pem"
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False,
            data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
            encipher_only=False, decipher_only=False,
        )  # fmt: skip
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        own = (
            self._builder(self._name, self._key)
            .add_extension(usage, critical=True)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(identifier, critical=False)
        )
        signed = own.sign(self._key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def context(self, *names: str) -> ssl.SSLContext:
        """Return what a server of these names or addresses needs."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = [_general(name) for name in names]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            self._builder(subject, key)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            # Python 3.13 checks strictly, and RFC 5280 wants it.
            .add_extension(issuer, critical=False)
        )
        signed = builder.sign(self._key, hashes.SHA256())
        path = self._folder / f"{'-'.join(names)}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + signed.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.timezone.utc)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@contextlib.contextmanager
def hub(context: ssl.SSLContext | None = None) -> Iterator[Hub]:
    """Give a running hub."""
    running = Hub(context)
    try:
        yield running
    finally:
        running.close()


@dataclass
class Desk:
    """What a controller would tell the proxy."""

    value: Secret | Exception = field(default_factory=lambda: Secret(VALUE))
    may: bool = True
    uses: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    revealed: int = 0
    audit_fault: Exception | None = None

    def value_of(self, info: SecretInfo) -> Secret:
        self.revealed += 1
        assert info.kind is SecretClass.DERIVED
        if isinstance(self.value, Exception):
            raise self.value
        return self.value

    def may_use(self, info: SecretInfo) -> bool:
        self.asked.append(info.name)
        return self.may

    def on_use(self, info: SecretInfo, text: str) -> None:
        if self.audit_fault is not None:
            raise self.audit_fault
        self.uses.append(f"{info.name}: {text}")


def derived(name: str, target: str) -> SecretInfo:
    """Return what is known of a secret that goes to `target`."""
    owner = UserId("teacher")
    return SecretInfo(name, owner, SecretClass.DERIVED, 1, 0.0, 0.0, len(VALUE), target=target)


@contextlib.contextmanager
def proxy_to(desk: Desk, **targets: str) -> Iterator[FetchProxy]:
    """Give a started proxy with these secrets, at a path short enough for a socket."""
    folder = Path(tempfile.mkdtemp(prefix="aios-fetch-"))
    secrets = {name: derived(name, target) for name, target in targets.items()}
    proxy = FetchProxy(
        folder / "fetch.sock",
        secrets,
        value_of=desk.value_of,
        may_use=desk.may_use,
        on_use=desk.on_use,
    )
    try:
        proxy.start()
        yield proxy
    finally:
        proxy.close()
        shutil.rmtree(folder)


def call(path: Path) -> socket.socket:
    """Return a connection to a proxy."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


def send_raw(path: Path, data: bytes) -> bytes:
    """Return all that is answered to these bytes."""
    with call(path) as connection:
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


@dataclass
class Reply:
    """An answer, read."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    path: Path,
    target: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    *,
    is_chunked: bool = False,
) -> Reply:
    """Return what is answered, to a client that knows nothing of this package."""
    with contextlib.closing(http.client.HTTPConnection("aios")) as connection:
        connection.sock = call(path)
        content = iter([body]) if is_chunked and body is not None else body
        connection.request(method, target, content, headers or {}, encode_chunked=is_chunked)
        with connection.getresponse() as reply:
            return Reply(reply.status, dict(reply.getheaders()), reply.read())
