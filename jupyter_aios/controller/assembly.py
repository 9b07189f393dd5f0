"""The controller's parts put together, over whatever store, engines and blobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from fastapi import FastAPI

from jupyter_aios.controller.access import Gate, user_name
from jupyter_aios.controller.anchors import commit_row, last_use, newest_anchor
from jupyter_aios.controller.http import Safe, create_app
from jupyter_aios.controller.keeper import Keeper
from jupyter_aios.controller.launching import Launching
from jupyter_aios.controller.ledger import Ledger
from jupyter_aios.controller.loop import Loop
from jupyter_aios.controller.rights import Rights
from jupyter_aios.controller.secrets import Secrets
from jupyter_aios.controller.service import Service
from jupyter_aios.controller.serving import Serving
from jupyter_aios.core.ports import Engine, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyter_aios.controller.pruning import Blobs


@dataclass(frozen=True)
class Controller:
    """All of it; `loop.start()` begins, `close()` ends, jobs go on."""

    store: Store
    engines: Mapping[str, Engine]
    ledger: Ledger
    service: Service
    gate: Gate
    keeper: Keeper
    serving: Serving
    launching: Launching
    loop: Loop
    app: FastAPI

    @property
    def idle_s(self) -> float:
        """Seconds since the last request, 0 while there is one or a job that is not over."""
        if self.gate.in_flight or self.ledger.live() or self.serving.is_open:
            return 0.0
        return time.monotonic() - self.gate.last_request_at

    def close(self) -> None:
        """End the loop, then the engines' warm processes, then the store; jobs go on."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.store.close)
            stack.callback(self.keeper.close)
            stack.callback(self.launching.close)
            stack.callback(self.serving.close)
            for engine in self.engines.values():
                stack.callback(engine.close)
            stack.callback(self.loop.close)


def assemble(
    *,
    home: Path,
    uid: int,
    store: Store,
    engines: Mapping[str, Engine],
    blobs: Blobs,
    clock: Callable[[], float] = time.time,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Controller:
    """Return a controller that serves the user `uid` from `home`; its vault is not open yet."""
    owner = user_name(uid)
    ledger = Ledger(store, clock)
    service = Service(home=home, user=owner, ledger=ledger, engines=engines, blobs=blobs)
    keeper = Keeper(
        home,
        environ,
        newest=lambda: newest_anchor(store),
        on_commit=lambda anchor: gate.record(commit_row(anchor, owner, clock()), must_succeed=True),
        clock=clock,
    )
    secrets = Secrets(keeper, runs=owner, clock=clock, last_use=lambda info: last_use(store, info))
    gate = Gate(
        owner=owner,
        store=store,
        find_job=service.job,
        clock=clock,
        audit_key=keeper.audit_key,
        find_secret=secrets.find,
    )
    rights = Rights(store, gate, keeper, owner=owner, clock=clock)
    launching = Launching(keeper=keeper, secrets=secrets, gate=gate, clock=clock, folder=home)
    service.check_secrets = launching.check
    loop = Loop(ledger, engines, service.nodes, launching)
    serving = Serving(keeper, launching, clock)
    app = create_app(service, gate, Safe(keeper, secrets, rights, serving))
    serving.app = app
    return Controller(store, engines, ledger, service, gate, keeper, serving, launching, loop, app)
