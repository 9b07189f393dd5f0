"""The controller's parts put together, over whatever store, engines and blobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastapi import FastAPI

from jupyter_aios.controller.access import Gate, user_name
from jupyter_aios.controller.http import create_app
from jupyter_aios.controller.ledger import Ledger
from jupyter_aios.controller.loop import Loop
from jupyter_aios.controller.service import Service
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
    loop: Loop
    app: FastAPI

    @property
    def idle_s(self) -> float:
        """Seconds since the last request, 0 while there is one or a job that is not over."""
        if self.gate.in_flight or self.ledger.live():
            return 0.0
        return time.monotonic() - self.gate.last_request_at

    def close(self) -> None:
        """End the loop, then the engines' warm processes, then the store; jobs go on."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.store.close)
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
) -> Controller:
    """Return a controller that serves the user `uid` from `home`."""
    owner = user_name(uid)
    ledger = Ledger(store, clock)
    service = Service(home=home, user=owner, ledger=ledger, engines=engines, blobs=blobs)
    gate = Gate(owner=owner, store=store, find_job=service.job, clock=clock)
    loop = Loop(ledger, engines, service.nodes)
    app = create_app(service, gate)
    return Controller(store, engines, ledger, service, gate, loop, app)
