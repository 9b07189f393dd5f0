from __future__ import annotations

import os
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_aios.controller.blobs import FileBlobs, blob_id
from jupyter_aios.core.entities import BlobId
from jupyter_aios.errors import InputError, StorageError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
DAY = 86_400.0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "home of “ada”" / "blobs"


@pytest.fixture
def blobs(root: Path) -> FileBlobs:
    return FileBlobs(root)


def put(blobs: FileBlobs, content: bytes) -> BlobId:
    blob = blob_id(content)
    blobs.put(blob, [content])
    return blob


def files(root: Path) -> list[str]:
    return sorted(file.name for file in root.rglob("*") if file.is_file())


def test_what_was_put_is_found_again(blobs: FileBlobs, root: Path) -> None:
    blob = blob_id(b"hello")
    assert blobs.missing([blob]) == [blob]
    blobs.put(blob, [b"he", b"", b"llo"])
    assert blobs.missing([blob]) == []
    assert blobs.path(blob).read_bytes() == b"hello"
    assert blobs.path(blob) == root / blob[:2] / blob


def test_any_bytes_in_any_pieces_come_back(blobs: FileBlobs) -> None:
    @settings(max_examples=50, deadline=None)
    @given(pieces=st.lists(st.binary(max_size=2000), max_size=5))
    def come_back(pieces: list[bytes]) -> None:
        content = b"".join(pieces)
        blobs.put(blob_id(content), pieces)
        assert blobs.path(blob_id(content)).read_bytes() == content

    come_back()


def test_missing_keeps_the_order_asked(blobs: FileBlobs) -> None:
    here = put(blobs, b"here")
    others = [blob_id(str(number).encode()) for number in range(5)]
    assert blobs.missing([*others[::-1], here]) == others[::-1]


def test_files_and_folders_are_for_the_owner_alone(blobs: FileBlobs, root: Path) -> None:
    old_umask = os.umask(0)
    try:
        path = blobs.path(put(blobs, b"hello"))
    finally:
        os.umask(old_umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for folder in (path.parent, root):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_bytes_with_another_hash_are_refused_and_not_kept(blobs: FileBlobs, root: Path) -> None:
    blob = blob_id(b"hello")
    with pytest.raises(InputError, match="hash"):
        blobs.put(blob, [b"hullo"])
    assert blobs.missing([blob]) == [blob]
    assert files(root) == []


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "0" * 63, "0" * 64 + "\n"])
def test_a_name_that_is_no_hash_is_refused(blobs: FileBlobs, root: Path, name: str) -> None:
    for ask in (
        lambda: blobs.put(BlobId(name), [b"x"]),
        lambda: blobs.path(BlobId(name)),
        lambda: blobs.missing([BlobId(name)]),
    ):
        with pytest.raises(InputError, match="SHA-256"):
            ask()
    assert not root.exists()


def test_a_blob_that_is_not_here_has_no_path(blobs: FileBlobs) -> None:
    with pytest.raises(UnknownNameError, match="submit the job again"):
        blobs.path(blob_id(b"never"))


def test_a_second_put_reads_nothing(blobs: FileBlobs) -> None:
    def unread() -> Iterator[bytes]:
        raise AssertionError("read")
        yield b""

    blob = put(blobs, b"hello")
    blobs.put(blob, unread())
    assert blobs.path(blob).read_bytes() == b"hello"


def test_a_sender_that_breaks_off_leaves_nothing_and_its_error_is_its_own(
    blobs: FileBlobs, root: Path
) -> None:
    def broken() -> Iterator[bytes]:
        yield b"he"
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        blobs.put(blob_id(b"hello"), broken())
    assert files(root) == []


def test_eight_senders_of_one_blob_make_one_file(blobs: FileBlobs, root: Path) -> None:
    content = os.urandom(200_000)
    chunks = [content[begin : begin + 1000] for begin in range(0, len(content), 1000)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: blobs.put(blob_id(content), chunks), range(8)))
    assert files(root) == [blob_id(content)]
    assert blobs.path(blob_id(content)).read_bytes() == content


def test_a_file_that_a_power_cut_emptied_counts_as_missing(blobs: FileBlobs) -> None:
    blob = put(blobs, b"hello")
    os.truncate(blobs.path(blob), 0)
    assert blobs.missing([blob]) == [blob]
    with pytest.raises(UnknownNameError):
        blobs.path(blob)
    assert put(blobs, b"hello") == blob
    assert blobs.path(blob).read_bytes() == b"hello"
    assert blobs.missing([put(blobs, b"")]) == []


def test_unused_blobs_go_when_they_are_old_enough(blobs: FileBlobs, root: Path) -> None:
    kept, old, young = (put(blobs, text) for text in (b"kept", b"old", b"young"))
    for blob in (kept, old):
        os.utime(blobs.path(blob), (0, 0))
    now = blobs.path(young).stat().st_mtime + 1
    assert blobs.remove_unused({kept}, DAY, now) == len(b"old")
    assert files(root) == sorted([kept, young])
    assert blobs.remove_unused({kept}, DAY, now) == 0


def test_a_blob_that_was_asked_for_counts_as_just_used(blobs: FileBlobs) -> None:
    asked, sent = put(blobs, b"asked"), put(blobs, b"sent")
    now = blobs.path(asked).stat().st_mtime + 1
    for blob in (asked, sent):
        os.utime(blobs.path(blob), (0, 0))
    assert blobs.missing([asked]) == []
    put(blobs, b"sent")
    assert blobs.remove_unused(set(), DAY, now) == 0


def test_a_blob_that_a_job_links_to_frees_no_bytes(blobs: FileBlobs, tmp_path: Path) -> None:
    path = blobs.path(put(blobs, b"linked"))
    (tmp_path / "values").hardlink_to(path)
    os.utime(path, (0, 0))
    assert blobs.remove_unused(set(), DAY, 2 * DAY) == 0
    assert not path.exists()
    assert (tmp_path / "values").read_bytes() == b"linked"


def test_what_a_killed_controller_was_writing_is_removed(blobs: FileBlobs, root: Path) -> None:
    part = root / "ab" / "tmpx.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"12345")
    os.utime(part, (0, 0))
    assert blobs.remove_unused(set(), DAY, 2 * DAY) == 5
    assert files(root) == []


def test_there_is_nothing_to_remove_before_the_first_blob(blobs: FileBlobs) -> None:
    assert blobs.remove_unused(set(), 0.0, DAY) == 0


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "tiny disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tiny", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@needs_root
def test_a_full_disk_is_named_with_a_hint_and_nothing_stays(tiny_disk: Path) -> None:
    blobs = FileBlobs(tiny_disk / "blobs")
    content = os.urandom(500_000)
    with pytest.raises(StorageError, match="no space left") as caught:
        blobs.put(blob_id(content), [content])
    assert str(tiny_disk) in caught.value.message
    assert "free)" in caught.value.message
    assert "%aios prune" in caught.value.hint
    assert files(tiny_disk) == []
    put(blobs, b"small")
