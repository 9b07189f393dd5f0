"""Another user who reaches the socket gets nothing from it, on any route."""

from __future__ import annotations

import contextlib
import http.client
import socket
from typing import TYPE_CHECKING

from jupyter_aios.controller.rules import RULES
from jupyter_aios.training.peers import read_lock
from tests.controller.rig import Rig

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

STRANGER = 4_000_000


def test_a_stranger_is_denied_on_every_route_and_it_is_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path / "home")
    job = rig.submit()
    replies = {}
    # What the operating system would say of them; tests cannot become somebody else.
    monkeypatch.setattr("jupyter_aios.controller.access.peer_uid", lambda _socket: STRANGER)
    with rig.serving():
        # The shutdown last: were it granted, nobody would answer the others.
        for method, path in sorted(RULES, key=lambda route: "shutdown" in route[1]):
            url = path.replace("{key}", job.id).replace("{sha256}", "0" * 64)
            with contextlib.closing(http.client.HTTPConnection("localhost")) as connection:
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.connect(read_lock(rig.home)["socket"])
                # No body: whoever is denied is answered before they could send one.
                url = url.replace("{name:path}", "x")
                connection.request(method, url, headers={"Connection": "close"})
                replies[method, path] = connection.getresponse().status
    assert replies == dict.fromkeys(RULES, 403)
    rows = rig.store.audit(100)
    assert [row.is_allowed for row in rows] == [False] * len(RULES)
    assert {row.user for row in rows} == {str(STRANGER)}
