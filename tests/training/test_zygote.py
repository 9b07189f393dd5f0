from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from jupyter_aios.training.zygote import site_stamp, why_not_fork

if TYPE_CHECKING:
    from pathlib import Path


def test_with_a_second_thread_nothing_is_forked() -> None:
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    try:
        assert "threads" in why_not_fork()
    finally:
        may_end.set()
        thread.join()


def test_an_installed_or_removed_package_changes_the_stamp(tmp_path: Path) -> None:
    paths = [str(tmp_path), str(tmp_path / "not there")]
    before = site_stamp(paths)
    assert site_stamp(paths) == before
    package = tmp_path / "torch-9.9.dist-info"
    package.mkdir()
    installed = site_stamp(paths)
    assert installed != before
    package.rmdir()
    assert site_stamp(paths) == before
