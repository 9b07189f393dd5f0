from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.client import Client
from jupyter_aios.controller.access import user_name
from jupyter_aios.core import version
from jupyter_aios.core.entities import BlobId
from jupyter_aios.core.ports import AttemptPhase, Outcome
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import PruneRequest
from jupyter_aios.errors import AiosError, InputError, UnknownNameError, VersionError
from tests.controller.rig import BLOB, SOURCE, Rig, fake_spec, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home")
    with rig.serving():
        yield rig


@pytest.fixture
def client(rig: Rig) -> Client:
    return Client(rig.home)


def test_every_use_case_crosses_the_socket(rig: Rig, client: Client, tmp_path: Path) -> None:
    content = b"x" * 3_000_000
    blob = BlobId(hashlib.sha256(content).hexdigest())
    assert client.missing_blobs([BLOB, blob]) == [blob]
    client.put_blob(blob, content)
    file = tmp_path / "source"
    file.write_bytes(SOURCE)
    client.put_blob(BLOB, file)
    assert client.missing_blobs([BLOB, blob]) == []
    assert [node.id for node in client.nodes()] == ["v0", "v1", "v2", "v3"]
    assert client.warm("/usr/bin/python", {}).is_warm
    assert [rank.node for rank in client.dry_run(fake_spec(nodes=2)).ranks] == ["v0", "v1"]

    job = client.submit(fake_spec(name="mnist"))
    rig.turn()
    attempt = rig.fake.attempt(rig.ref(job))
    attempt.emit(0, "a line\n")
    attempt.leave("weights", content, kind="state")
    attempt.end(Outcome.SUCCEEDED)
    rig.turn()
    reply = client.events("mnist", {})
    assert [event.text for event in reply.batch.events if event.text] == ["a line\n"]
    assert client.events("mnist", reply.batch.cursor).batch.events == ()
    assert [result.size_bytes for result in client.results("mnist")] == [len(content)]
    client.fetch_result("mnist", "weights", tmp_path / "weights")
    assert (tmp_path / "weights").read_bytes() == content
    assert [step.new.value for step in client.history("mnist")][-1] == "succeeded"
    assert [found.id for found in client.jobs(states=[JobState.SUCCEEDED], limit=3)] == [job.id]
    assert client.cancel("mnist").state is JobState.SUCCEEDED
    assert client.prune(PruneRequest(names=("mnist",))).jobs == (job.id,)
    assert client.jobs() == []


def test_the_owner_of_a_job_is_who_the_socket_says(client: Client) -> None:
    import os

    assert client.submit(fake_spec()).owner == user_name(os.getuid())
    assert client.hello().version == version.__version__


def test_an_error_arrives_as_the_class_it_was_raised_as(client: Client) -> None:
    client.submit(fake_spec(name="mnist"))
    with pytest.raises(UnknownNameError) as caught:
        client.job("mnits")
    assert caught.value.hint == "did you mean mnist?"


def test_a_name_with_odd_characters_is_a_name(client: Client) -> None:
    for name in ("a/b", "../hello", "a?b=c", "ü %41", ""):
        with pytest.raises(AiosError, match=r"no job is named|does not know"):
            client.job(name or "%")


def test_a_bug_is_told_with_where_to_look_and_its_traceback_is_logged(
    rig: Rig, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def bug() -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(rig.controller.service, "hello", bug)
    with pytest.raises(AiosError, match=r"internal error in the controller") as caught:
        client.hello()
    assert "controller.log" in caught.value.hint
    assert "secret detail" not in str(caught.value)
    assert "secret detail" in caplog.text


def test_a_spec_that_is_none_lists_its_faults(client: Client) -> None:
    with pytest.raises(InputError, match=r"nodes: .*; .*interpreter: "):
        client._transport.ask(  # noqa: SLF001 - what another client may send
            "POST",
            "/v1/jobs",
            json.dumps({"nodes": "many"}).encode(),
            read=lambda reply: reply.read(),
        )


def test_an_unknown_route_says_that_versions_differ(client: Client) -> None:
    with pytest.raises(VersionError, match="does not know GET /v1/future"):
        client._json("GET", "/v1/future")  # noqa: SLF001


def test_bytes_with_another_hash_are_refused(client: Client) -> None:
    with pytest.raises(InputError, match="have the hash"):
        client.put_blob(BlobId("0" * 64), b"x" * 2_000_000)


@pytest.mark.parametrize(
    "cursor", ["[]", "{", '{"../../etc/passwd": 0}', '{"1/x": -1}', '{"1/x": true}']
)
def test_a_cursor_that_is_none_is_refused(client: Client, cursor: str) -> None:
    job = client.submit(fake_spec())
    with pytest.raises(InputError, match="is not a cursor"):
        client._json("GET", f"/v1/jobs/{job.id}/events", {"cursor": cursor})  # noqa: SLF001


def test_the_description_names_every_route(rig: Rig, client: Client) -> None:
    described = client._json("GET", "/v1/openapi.json")  # noqa: SLF001
    paths = {
        route.path.replace(":path", "")  # type: ignore[attr-defined]
        for route in rig.controller.app.routes
    }
    assert set(described["paths"]) == paths
    assert "JobSpec" in described["components"]["schemas"]


# ------------------------------------------------------------------------ long polls


def test_a_waiting_reader_gets_a_line_when_it_is_printed(rig: Rig, client: Client) -> None:
    job = client.submit(fake_spec())
    rig.turn()
    begun = client.events(job.id, {})
    replies = []
    reader = threading.Thread(
        target=lambda: replies.append(client.events(job.id, begun.batch.cursor, wait_s=30))
    )
    reader.start()
    wait_for(lambda: rig.controller.gate.in_flight)
    rig.fake.emit(rig.ref(job), 0, "at last\n")
    reader.join()
    assert [event.text for event in replies[0].batch.events] == ["at last\n"]


def test_a_waiting_reader_is_told_when_the_state_changes(rig: Rig, client: Client) -> None:
    job = client.submit(fake_spec())
    rig.turn()
    cursor = client.events(job.id, {}).batch.cursor
    # The state that the reader knows is another one already: no wait at all.
    reply = client.events(job.id, cursor, wait_s=30, state=JobState.QUEUED)
    assert reply.job.state is JobState.STARTING
    rig.fake.advance(rig.ref(job), AttemptPhase.ENDED, outcome=Outcome.SUCCEEDED)
    rig.turn()
    cursor = client.events(job.id, cursor).batch.cursor
    over = client.events(job.id, cursor, wait_s=30, state=JobState.SUCCEEDED)
    assert over.job.state.is_terminal
    assert over.batch.events == ()


def test_a_reader_of_a_silent_job_is_answered_in_the_end(rig: Rig, client: Client) -> None:
    job = client.submit(fake_spec())
    rig.turn()
    cursor = client.events(job.id, {}).batch.cursor
    reply = client.events(job.id, cursor, wait_s=0.1, state=JobState.STARTING)
    assert reply.batch.events == ()


def test_many_waiting_readers_keep_nobody_from_asking(rig: Rig, client: Client) -> None:
    job = client.submit(fake_spec())
    rig.turn()
    cursor = client.events(job.id, {}).batch.cursor
    readers = [
        threading.Thread(target=lambda: client.events(job.id, cursor, wait_s=30)) for _ in range(60)
    ]
    for reader in readers:
        reader.start()
    wait_for(lambda: rig.controller.gate.in_flight == 60)
    assert client.job(job.id).id == job.id
    assert rig.controller.gate.in_flight >= 60, "it had to wait for the readers"
    rig.fake.emit(rig.ref(job), 0, "go\n")
    for reader in readers:
        reader.join()


def test_a_shutdown_does_not_wait_for_readers(rig: Rig, client: Client) -> None:
    job = client.submit(fake_spec())
    rig.turn()
    cursor = client.events(job.id, {}).batch.cursor
    replies = []
    reader = threading.Thread(
        target=lambda: replies.append(client.events(job.id, cursor, wait_s=30))
    )
    reader.start()
    wait_for(lambda: rig.controller.gate.in_flight)
    assert client.shutdown()
    reader.join()
    assert replies[0].batch.events == ()
