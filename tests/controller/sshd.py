"""A real sshd of a test's own on loopback, and what talks to it and to SSH agents."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@dataclass(frozen=True)
class Sshd:
    """A running server."""

    port: int
    folder: Path
    host_key: bytes
    """As SSH sends it."""

    def command(self, *arguments: str, options: tuple[str, ...] = ()) -> list[str]:
        """Return an ssh that knows this server, and no key, agent or file of the person's."""
        settings = {
            "UserKnownHostsFile": self.folder / "known_hosts",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentityFile": "none",
            "BatchMode": "yes",
            "PreferredAuthentications": "publickey",
        }
        told = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
        target = [*options, "-p", str(self.port), "127.0.0.1"]
        return ["ssh", "-F", "/dev/null", *told, *target, *arguments]

    def said(self) -> str:
        """Return the server's log."""
        return (self.folder / "sshd.log").read_text()


@contextlib.contextmanager
def sshd_at(folder: Path, authorized: list[str]) -> Iterator[Sshd]:
    """Run an sshd that lets these public keys in, as whoever runs the test."""
    host, known = folder / "host", folder / "authorized_keys"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", host], check=True)
    known.write_text("\n".join(authorized) + "\n")
    if os.geteuid() == 0:  # for its unprivileged children
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    options = {
        "Port": port,
        "ListenAddress": "127.0.0.1",
        "HostKey": host,
        "AuthorizedKeysFile": known,
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "MaxStartups": "100",
        "LogLevel": "VERBOSE",
    }
    told = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    log = folder / "sshd.log"
    server = subprocess.Popen([str(SSHD), "-D", "-E", str(log), "-f", "/dev/null", *told])
    line = host.with_suffix(".pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {line}")
    try:
        _wait_for_port(port, server)
        yield Sshd(port, folder, base64.b64decode(line.split()[1]))
    finally:
        sessions = psutil.Process(server.pid).children(recursive=True)
        server.terminate()
        server.wait(timeout=30)
        # A session outlives its server: it ends with the client that the test has ended.
        _, left = psutil.wait_procs(sessions, timeout=10)
        for one in left:
            one.kill()


def _wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    with socket.socket() as probe:
        while probe.connect_ex(("127.0.0.1", port)) != 0:
            assert server.poll() is None, "sshd has ended"
            assert time.monotonic() < deadline, "sshd did not come up"
            time.sleep(0.02)


class AgentClient:
    """One connection to an SSH agent."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, message: bytes) -> None:
        self.socket.sendall(struct.pack(">I", len(message)) + message)

    def receive(self) -> bytes:
        """Return one whole reply, or nothing where the connection was closed."""
        try:
            head = self._take(4)
            return self._take(int.from_bytes(head, "big")) if head else b""
        except ConnectionResetError:
            return b""

    def ask(self, message: bytes) -> bytes:
        self.send(message)
        return self.receive()

    def _take(self, count: int) -> bytes:
        taken = b""
        while len(taken) < count:
            chunk = self.socket.recv(count - len(taken))
            if not chunk:
                return b""
            taken += chunk
        return taken


class Recorder:
    """Stands between an agent's clients and the agent, and keeps every byte of both sides."""

    def __init__(self, path: Path, agent: Path) -> None:
        self.recorded = bytearray()
        self._agent = agent
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ends: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(str(self._agent))
            self._ends += [client, server]
            for one, other in ((client, server), (server, client)):
                thread = threading.Thread(target=self._copy, args=(one, other))
                self._threads.append(thread)
                thread.start()

    def _copy(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := one.recv(65536):
                self.recorded += chunk
                other.sendall(chunk)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for end in list(self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for end in self._ends:
            end.close()
