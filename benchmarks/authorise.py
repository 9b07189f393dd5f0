"""Decisions of the policy a second, and the milliseconds that the gate adds to a request.

The second is measured on a real socket over a real store: the application as it is, against the
same one whose gate lets everything pass, unasked and unwritten. Two routes: a look at a job, whose
audit row may come late, and the poll of its events, of which none is written.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import statistics
import tempfile
import threading
import time
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks._measure import Report, alternate, arguments
from jupyter_aios.controller.access import Admission, Gate, user_name
from jupyter_aios.controller.assembly import assemble
from jupyter_aios.controller.blobs import FileBlobs
from jupyter_aios.controller.http import Safe, create_app, create_server
from jupyter_aios.controller.store import SqlStore
from jupyter_aios.core.entities import UserId
from jupyter_aios.core.policy import Action, Actor, ActorKind, Resource, Role, authorise
from jupyter_aios.core.secrets import Share
from jupyter_aios.testing.engines import FakeEngine
from jupyter_aios.testing.examples import example_job

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastapi import FastAPI

    from jupyter_aios.controller.rules import Rule

ROUTES = {"a look at a job": "/v1/jobs/{id}", "a poll of events": "/v1/jobs/{id}/events"}
KEY = b"k" * 32


class OpenGate(Gate):
    """Finds what a request names, as any application must, and asks nothing."""

    def admit(self, rule: Rule, scope: Mapping[str, Any], params: Mapping[str, str]) -> Admission:
        """Let it pass."""
        del scope
        job = self._find_job(params["key"], self._owner) if rule.kind == "job" else None
        return Admission(Actor(self._owner, ActorKind.LOCAL, Role.ADMIN), job)


def decisions_per_second(count: int) -> float:
    """Return how many mixed decisions one core makes in a second."""
    actors = [Actor(UserId("ada"), role=role, groups=("art", "ml")) for role in Role]
    resources = [
        Resource("job", "x", UserId("ada")),
        Resource("job", "x", UserId("bob"), group="ml"),
        Resource("secret", "bob/key", UserId("bob"), shares=(Share("group:ml"),)),
    ]
    cases = [(a, action, r) for a in actors for action in Action for r in resources]
    rounds = count // len(cases) + 1
    begun = time.perf_counter()
    for _ in range(rounds):
        for actor, action, resource in cases:
            authorise(actor, action, resource)
    return rounds * len(cases) / (time.perf_counter() - begun)


@contextlib.contextmanager
def serving(app: FastAPI, path: Path) -> Iterator[http.client.HTTPConnection]:
    """Serve the application on a Unix socket and give a connection to it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(8)
    server = create_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(path))
    try:
        yield connection
    finally:
        connection.close()
        server.should_exit = True
        thread.join()
        listener.close()


def timed(connection: http.client.HTTPConnection, url: str, count: int) -> float:
    """Return the milliseconds of one request, the median of several."""
    took = []
    for _ in range(count):
        begun = time.perf_counter()
        connection.request("GET", url)
        reply = connection.getresponse()
        reply.read()
        took.append((time.perf_counter() - begun) * 1000)
        assert reply.status == 200, url
    return statistics.median(took)


def row_ms(store: SqlStore, count: int) -> float:
    """Return the milliseconds of one sealed row of the audit."""
    from jupyter_aios.core.audit import AuditRow

    row = AuditRow(1.0, UserId("ada"), "job:read", "job:x", is_allowed=True, reason="student, own")
    begun = time.perf_counter()
    for _ in range(count):
        store.add_audit(row, KEY)
    return (time.perf_counter() - begun) * 1000 / count


def measure(folder: Path, report: Report, pairs: int, count: int) -> dict[str, Any]:
    """Measure both routes and return the figures of the first."""
    store = SqlStore(f"sqlite:///{folder}/store.sqlite")
    controller = assemble(
        home=folder,
        uid=os.getuid(),
        store=store,
        engines={"fake": FakeEngine(folder)},
        blobs=FileBlobs(folder / "blobs"),
    )
    owner = user_name(os.getuid())
    job = example_job(owner=owner, engine="fake")
    store.add_job(job)

    parts = controller.app.state
    safe = Safe(*(getattr(parts, field.name) for field in fields(Safe)))
    open_gate = OpenGate(owner=owner, store=store, find_job=controller.service.job, clock=time.time)
    free = create_app(controller.service, open_gate, safe)
    figures = []
    with (
        serving(controller.app, folder / "a.sock") as ours,
        serving(free, folder / "b.sock") as peer,
    ):
        for name, route in ROUTES.items():
            url = route.format(id=job.id)
            timed(ours, url, 20)
            timed(peer, url, 20)
            pair = alternate(
                pairs, partial(timed, ours, url, count), partial(timed, peer, url, count)
            )
            figures.append(report.pair(name, *pair))
            added = statistics.median(a - b for a, b in zip(*pair, strict=True))
            label = name.replace(" ", "_")
            report.extra[f"added_ms_{label}"] = round(added, 3)
            report.line(f"{'':<28} the gate adds {added:.3f} ms")
    report.extra["audit_row_ms"] = round(row_ms(store, 200), 3)
    controller.close()
    return figures[0]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("authorise", "ms", "lower", options.json)
    pairs, count = (7, 30) if options.quick else (25, 100)
    rates = [decisions_per_second(50_000) for _ in range(5)]
    report.extra["decisions_per_s"] = round(statistics.median(rates))
    report.line(f"decisions per second         {report.extra['decisions_per_s']:,}")
    with tempfile.TemporaryDirectory(prefix="aios-bench-") as folder:
        figures = measure(Path(folder), report, pairs, count)
    report.line(f"one row of the audit takes   {report.extra['audit_row_ms']} ms")
    report.finish(figures)


if __name__ == "__main__":
    main()
