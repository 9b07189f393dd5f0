"""A disk that takes no more, without a disk: a limit on how large this process's files may grow."""

from __future__ import annotations

import contextlib
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Have writes beyond this offset of a file fail, after what still fits was taken (EFBIG)."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
