"""`aios.fetch` in a rank: what comes back, and what is said where nothing does."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

import pytest

import jupyter_aios as aios
from jupyter_aios.errors import (
    CapacityError,
    DeniedError,
    InputError,
    LockedError,
    StateError,
    StorageError,
    UnavailableError,
    UnknownNameError,
)
from jupyter_aios.training import fetching
from tests.controller.hub import Desk, Hub, blob, hub, proxy_to
from tests.limits import file_size_limit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jupyter_aios.controller.fetching import FetchProxy


@pytest.fixture
def server() -> Iterator[Hub]:
    with hub() as running:
        yield running


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(autouse=True)
def proxy(server: Hub, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[FetchProxy]:
    """Make this process a rank of a job with the secret HUB."""
    with proxy_to(desk, HUB=server.url()) as running:
        monkeypatch.setenv(fetching.SOCKET_VARIABLE, str(running.path))
        yield running


def test_bytes_come_back() -> None:
    assert aios.fetch("blob/5000?rev=2", secret="HUB") == blob(5000)
    assert aios.fetch("/blob/10", secret="HUB") == blob(10)


def test_a_file_is_streamed_into(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    assert aios.fetch("blob/3000000", secret="HUB", to=path) == path
    assert path.read_bytes() == blob(3_000_000)
    assert list(tmp_path.iterdir()) == [path]


def test_a_body_is_sent_from_bytes_and_from_a_file(server: Hub) -> None:
    body = blob(700_000)
    options = {"Content-Type": "application/octet-stream"}
    for data in (body, io.BytesIO(body)):
        aios.fetch("digest", secret="HUB", method="PUT", data=data, headers=options)
    assert [seen.body for seen in server.seen] == [body, body]
    assert server.seen[0].header("Content-Type") == ["application/octet-stream"]


def test_a_path_is_typed_as_it_is_read(server: Hub) -> None:
    with pytest.raises(InputError, match="404"):
        aios.fetch("models/größe 1.bin?a=b c", secret="HUB")
    with pytest.raises(InputError, match="404"):
        aios.fetch("models/a%2Fb", secret="HUB")
    assert [seen.path for seen in server.seen] == [
        "/api/models/gr%C3%B6%C3%9Fe%201.bin?a=b%20c",
        "/api/models/a%2Fb",
    ]


@pytest.mark.parametrize(
    ("status", "kind", "word"),
    [
        (404, InputError, "404 Not Found"),
        (403, InputError, "403 Forbidden"),
        (500, UnavailableError, "500 Internal Server Error"),
        (503, UnavailableError, "503 Service Unavailable"),
    ],
)
def test_what_the_server_refuses_is_told_with_the_beginning_of_what_it_says(
    status: int, kind: type[Exception], word: str
) -> None:
    with pytest.raises(kind) as caught:
        aios.fetch(f"status/{status}?token=abc", secret="HUB")
    assert isinstance(caught.value, (InputError, UnavailableError))
    assert caught.value.message == f"GET status/{status} with HUB: {word}: " + "x" * 300


def test_a_redirect_is_told_without_its_query(server: Hub) -> None:
    server.elsewhere = "https://cdn.example/x.bin"
    with pytest.raises(InputError) as caught:
        aios.fetch("moved", secret="HUB")
    assert caught.value.message == "GET moved with HUB: 302, moved to https://cdn.example/x.bin"
    assert "the secret does not go there" in caught.value.hint


def test_what_the_controller_refuses_arrives_as_the_error_it_is(desk: Desk) -> None:
    with pytest.raises(UnknownNameError, match="no secret to fetch with is named 'HUP'") as caught:
        aios.fetch("blob/1", secret="HUP")
    assert caught.value.hint == "did you mean HUB?"
    with pytest.raises(InputError, match="no path below a target"):
        aios.fetch("../admin", secret="HUB")
    desk.value = LockedError("the vault is locked", hint="%aios unlock")
    with pytest.raises(LockedError, match="GET blob/1 with HUB: the vault is locked") as locked:
        aios.fetch("blob/1", secret="HUB")
    assert locked.value.hint == "%aios unlock"
    desk.may = False
    with pytest.raises(DeniedError, match="teacher/HUB is not for this job any more"):
        aios.fetch("blob/1", secret="HUB")


def test_a_body_that_is_refused_before_it_is_sent_is_told_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.may = False
    with pytest.raises(DeniedError):
        aios.fetch("digest", secret="HUB", method="PUT", data=bytes(5_000_000))
    desk.may = True
    monkeypatch.setattr("jupyter_aios.controller.fetching.asking.MAX_BODY_BYTES", 1000)
    with pytest.raises(CapacityError):
        aios.fetch("digest", secret="HUB", method="PUT", data=io.BytesIO(bytes(5_000_000)))


def test_outside_a_job_it_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fetching.SOCKET_VARIABLE)
    with pytest.raises(StateError) as caught:
        aios.fetch("blob/1", secret="HUB")
    assert caught.value.hint == "%%aios_train --secret HUB, and fetch in the cell"


def test_all_faults_of_a_call_are_told_at_once() -> None:
    with pytest.raises(InputError) as caught:
        aios.fetch("https://hub.school/x", secret="not a name")
    assert caught.value.message == (
        "2 faults: 'not a name' is no secret's name;"
        " a whole URL: the secret's target says where it goes"
    )


def test_a_header_with_a_line_end_is_no_request(server: Hub) -> None:
    with pytest.raises(InputError, match="GET blob/1 with HUB is no request"):
        aios.fetch("blob/1", secret="HUB", headers={"X-A": "1\r\nX-B: 2"})
    assert not server.seen


def test_a_proxy_that_is_gone_is_told(proxy: FetchProxy) -> None:
    proxy.close()
    with pytest.raises(UnavailableError, match=r"does not answer \(FileNotFoundError\)"):
        aios.fetch("blob/1", secret="HUB")


def test_an_answer_that_breaks_off_is_told_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(UnavailableError, match="the answer broke off"):
        aios.fetch("short", secret="HUB", to=path)
    with pytest.raises(UnavailableError, match="the answer broke off"):
        aios.fetch("short", secret="HUB")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with (
        file_size_limit(100_000),
        pytest.raises(StorageError, match=f"{path} cannot be written: File too large"),
    ):
        aios.fetch("blob/3000000", secret="HUB", to=path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file or directory"):
        aios.fetch("blob/1", secret="HUB", to=tmp_path / "nowhere" / "x.bin")
    with pytest.raises(StorageError, match="cannot be written"):
        aios.fetch("blob/1", secret="HUB", to=tmp_path)
    assert os.listdir(tmp_path) == []
