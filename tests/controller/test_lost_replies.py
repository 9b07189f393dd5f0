from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jupyter_aios.client import Client, replies, transport
from tests.controller.rig import Rig, fake_spec

if TYPE_CHECKING:
    from http.client import HTTPResponse
    from pathlib import Path

    import pytest


def test_a_submission_whose_reply_is_lost_is_sent_again_and_makes_one_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path / "home")
    send = replies.send  # the wire, which no test can cut in time
    lost: list[bytes] = []

    def lose_the_first(connection: Any, method: str, path: str, body: Any) -> HTTPResponse:
        reply = send(connection, method, path, body)
        if (method, path[:8]) == ("POST", "/v1/jobs") and not lost:
            lost.append(reply.read())
            raise ConnectionResetError
        return reply

    monkeypatch.setattr(transport, "send", lose_the_first)
    with rig.serving():
        job = Client(rig.home).submit(fake_spec())
    assert lost
    assert [stored.id for stored in rig.store.find_jobs()] == [job.id]
