"""A controller in this process: the real service, loop and application over a fake engine."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from jupyter_aios.client import Client
from jupyter_aios.client.login import Login, read_fingerprint
from jupyter_aios.controller.assembly import Controller, assemble
from jupyter_aios.controller.blobs import FileBlobs
from jupyter_aios.controller.http import create_server
from jupyter_aios.core.entities import (
    BlobId,
    Code,
    CodeKind,
    Job,
    JobSpec,
    Resources,
    SourceFile,
    UserId,
)
from jupyter_aios.core.home import LOCK_FILE
from jupyter_aios.core.policy import ActorKind, Member, Role
from jupyter_aios.core.ports import AttemptRef
from jupyter_aios.core.rights import FrontWish, TokenWish
from jupyter_aios.core.safe import KeyKind, SecretPut, SecretShares, VaultKey, wrapped
from jupyter_aios.core.secrets import Secret, SecretClass, SecretInfo, Share
from jupyter_aios.core.wire import to_plain
from jupyter_aios.errors import StorageError
from jupyter_aios.testing.engines import FakeEngine
from jupyter_aios.testing.examples import example_spec
from jupyter_aios.testing.stores import MemoryStore
from jupyter_aios.vault import KeyFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from jupyter_aios.controller.rights import Rights
    from jupyter_aios.controller.secrets import Secrets
    from jupyter_aios.core.policy import Actor
    from jupyter_aios.core.ports import Engine, Store

SOURCE = b"print('hello')\n"
BLOB = BlobId(hashlib.sha256(SOURCE).hexdigest())
CODE = Code(CodeKind.SCRIPT, (SourceFile("train.py", BLOB, "train.py"),))
ME = UserId("ada")
PEOPLE = (Member(ME, Role.TEACHER), Member(UserId("bob"), Role.STUDENT))


def fake_spec(**changes: Any) -> JobSpec:
    """Return a spec for the fake engine, whose only blob is `SOURCE`."""
    defaults: dict[str, Any] = {"engine": "fake", "code": CODE, "resources": Resources()}
    return example_spec(**{**defaults, **changes})


class FullStore(MemoryStore):
    """A store whose disk can be full."""

    is_full = False

    def add_job(self, *args: Any) -> None:
        self._check()
        super().add_job(*args)

    def transition(self, *args: Any, **changes: Any) -> Job:
        self._check()
        return super().transition(*args, **changes)

    def save_attempt(self, *args: Any) -> None:
        self._check()
        super().save_attempt(*args)

    def add_audit(self, *args: Any) -> None:
        self._check()
        super().add_audit(*args)

    def _check(self) -> None:
        if self.is_full:
            raise StorageError("the disk is full", hint="%aios prune")


@dataclass(frozen=True)
class Reply:
    """What the application answered."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON."""
        return json.loads(self.body)


class Rig:
    """What a test holds in its hands; time is the fake engine's, turns are made by `turn`."""

    def __init__(
        self,
        home: Path,
        store: Store | None = None,
        engine: Engine | None = None,
        *,
        runtime: Path | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Begin with a teacher, ada, and a student, bob.

        `runtime` is where the sockets of attempts lie: pytest's own paths are too long for them.
        """
        home.mkdir(mode=0o700, exist_ok=True)
        self.home = home
        self.runtime = runtime if runtime is not None else home
        self.environ = environ
        self.store = store if store is not None else FullStore()
        for member in PEOPLE:
            self.store.save_member(member)
        self.fake = engine if isinstance(engine, FakeEngine) else FakeEngine(home)
        self.engine = engine if engine is not None else self.fake
        self.controller = self.assemble()

    def assemble(self) -> Controller:
        """Return a controller over the same store and engine, as after a restart."""
        blobs = FileBlobs(self.home / "blobs")
        blobs.put(BLOB, [SOURCE])
        controller = assemble(
            home=self.home,
            uid=os.getuid(),
            store=self.store,
            engines={"fake": self.engine},
            blobs=blobs,
            clock=lambda: self.fake.machine.now,
            environ=self.environ,
        )
        controller.launching.folder = self.runtime
        return controller

    def restart(self) -> None:
        """Have another controller take over, as after a kill."""
        # What a process that is killed gives back to the system: ports, sockets and locks.
        for part in (self.controller.serving, self.controller.launching, self.controller.keeper):
            part.close()
        self.controller = self.assemble()
        self.controller.loop.adopt()

    @property
    def secrets(self) -> Secrets:
        """The use cases of secrets."""
        found: Secrets = self.controller.app.state.secrets
        return found

    @property
    def rights(self) -> Rights:
        """The use cases of rights."""
        found: Rights = self.controller.app.state.rights
        return found

    def actor(self, user: str) -> Actor:
        """Return somebody with the role that they have now."""
        return self.controller.gate.actor(UserId(user), ActorKind.LOCAL)

    def open_vault(self) -> None:
        """Open the vault, which is made the first time, by a key that costs no time."""
        path = self.home / "rig.key"
        if not path.exists():
            KeyFile.make(path)
        self.controller.keeper.unlock(VaultKey(KeyKind.KEY_FILE, str(path)))

    def put_secret(
        self, name: str, value: str | bytes, kind: SecretClass = SecretClass.INJECT, *,
        owner: UserId = ME, shares: tuple[Share, ...] = (), target: str = "",
    ) -> SecretInfo:  # fmt: skip
        """Put a secret into the open vault as its owner would."""
        put = SecretPut(wrapped(Secret(value)), kind, target)
        info = self.secrets.put(owner, name, put)
        return self.secrets.share(info, SecretShares(shares)) if shares else info

    def log_in(self, user: str) -> Client:
        """Return a client of somebody elsewhere, who has been given a token; the front is open."""
        status = self.controller.serving.open(FrontWish("127.0.0.1", 0))
        token = self.rights.issue_token(UserId(user), TokenWish(3600.0)).token
        fingerprint = read_fingerprint(status.fingerprint)
        return Client.of_login(self.home, Login(status.url, fingerprint, token))

    def submit(self, **changes: Any) -> Job:
        """Submit a job for the user of the tests; each comes later than the one before."""
        self.fake.machine.now += 0.001
        return self.controller.service.submit(fake_spec(**changes), ME)

    def turn(self, count: int = 1) -> None:
        """Let the loop make turns."""
        for _ in range(count):
            self.controller.loop.tick()

    def job(self, job: Job) -> Job:
        """Return the job as it is now."""
        return self.controller.service.job(job.id, ME)

    def states(self, job: Job) -> list[str]:
        """Return the states that the job has been in."""
        return [step.new.value for step in self.store.history(job.id)]

    def ref(self, job: Job) -> AttemptRef:
        """Return the name of the job's current attempt."""
        return AttemptRef(job.id, self.job(job).attempt)

    def ask(self, uid: int, method: str, path: str, body: object = None) -> Reply:
        """Return the application's reply to a request of this user id, as its socket knows it."""
        return asyncio.run(self._ask(uid, method, path, body))

    async def _ask(self, uid: int, method: str, path: str, body: object) -> Reply:
        raw, _, query = path.partition("?")
        content = b"" if body is None else json.dumps(to_plain(body)).encode()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": unquote(raw),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(b"content-type", b"application/json")],
            "client": (f"uid:{uid}", 0),
            "server": ("localhost", None),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.controller.app(scope, receive, send)
        return Reply(sent[0]["status"], b"".join(part.get("body", b"") for part in sent))

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the real application on a real socket, which a Client of this home finds."""
        folder = tempfile.mkdtemp(prefix="aios-rig-")
        path = Path(folder) / "ctl.sock"
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(64)
        server = create_server(self.controller.app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        (self.home / LOCK_FILE).write_text(json.dumps({"socket": str(path), "pid": os.getpid()}))
        try:
            yield
        finally:
            server.should_exit = True
            thread.join()
            listener.close()
            path.unlink()
            path.parent.rmdir()


def wait_for(claim: Callable[[], object], deadline_s: float = 20.0) -> None:
    """Return when the claim holds; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not claim():
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.01)
