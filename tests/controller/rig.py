"""A controller in this process: the real service, loop and application over a fake engine."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from jupyter_aios.core.ports import AttemptRef
from jupyter_aios.errors import StorageError
from jupyter_aios.testing.engines import FakeEngine
from jupyter_aios.testing.examples import example_spec
from jupyter_aios.testing.stores import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jupyter_aios.core.ports import Engine, Store

SOURCE = b"print('hello')\n"
BLOB = BlobId(hashlib.sha256(SOURCE).hexdigest())
CODE = Code(CodeKind.SCRIPT, (SourceFile("train.py", BLOB, "train.py"),))
ME = UserId("ada")


def fake_spec(**changes: Any) -> JobSpec:
    """Return a spec for the fake engine, whose only blob is `SOURCE`."""
    defaults: dict[str, Any] = {"engine": "fake", "code": CODE, "resources": Resources()}
    return example_spec(**{**defaults, **changes})


class FullStore(MemoryStore):
    """A store whose disk can be full."""

    is_full = False

    def add_job(self, job: Job) -> None:
        self._check()
        super().add_job(job)

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


class Rig:
    """What a test holds in its hands; time is the fake engine's, turns are made by `turn`."""

    def __init__(
        self, home: Path, store: Store | None = None, engine: Engine | None = None
    ) -> None:
        home.mkdir(mode=0o700, exist_ok=True)
        self.home = home
        self.store = store if store is not None else FullStore()
        self.fake = engine if isinstance(engine, FakeEngine) else FakeEngine(home)
        self.engine = engine if engine is not None else self.fake
        self.controller = self.assemble()

    def assemble(self) -> Controller:
        """Return a controller over the same store and engine, as after a restart."""
        blobs = FileBlobs(self.home / "blobs")
        blobs.put(BLOB, [SOURCE])
        return assemble(
            home=self.home,
            uid=os.getuid(),
            store=self.store,
            engines={"fake": self.engine},
            blobs=blobs,
            clock=lambda: self.fake.machine.now,
        )

    def restart(self) -> None:
        """Have another controller take over, as after a kill."""
        self.controller = self.assemble()
        self.controller.loop.adopt()

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
