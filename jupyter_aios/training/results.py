"""What rank 0 leaves for `pull`: variables as pickles, weights as state_dicts.

`results/index.json` lists them; it is written last, so that what it names is whole.
"""

from __future__ import annotations

import io
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.ports import Result
from jupyter_aios.core.units import format_bytes
from jupyter_aios.core.wire import from_plain
from jupyter_aios.training.journal import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

RETURNED = "return"
"""The name under which a submitted function's return value lies; no variable can have it."""


class _TooLargeError(Exception):
    """The value is larger than `--pull-limit`."""


class _LimitedFile(io.RawIOBase):
    """A file that refuses to grow beyond a limit, instead of filling the disk first."""

    def __init__(self, path: Path, limit_bytes: int) -> None:
        self._file = path.open("wb")
        self._limit_bytes = limit_bytes
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        count = memoryview(data).nbytes
        self.size_bytes += count
        if self.size_bytes > self._limit_bytes:
            raise _TooLargeError
        return self._file.write(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def save(
    folder: Path,
    values: Mapping[str, Any],
    shipped: frozenset[str],
    limit_bytes: int,
    notice: Callable[[str], None],
) -> None:
    """Write `values` and the index; what cannot be written is in the index with its reason.

    Args:
        folder: the attempt's folder.
        values: by name; a missing variable is named by `MISSING`.
        shipped: definitions that the notebook has too: their instances travel by reference.
        limit_bytes: for each value.
        notice: tells the person what could not be kept.

    """
    target = folder / "results"
    target.mkdir(mode=0o700, exist_ok=True)
    index = []
    for name, value in values.items():
        if value is MISSING:
            result = Result(name, "none", 0, f"there is no variable {name!r} at the end")
        else:
            result = _save_one(target, name, value, shipped, limit_bytes)
        if result.error:
            notice(f"--pull {name}: {result.error}")
        index.append(asdict(result))
    write_json(target / "index.json", index)


MISSING = object()


def _save_one(
    target: Path,
    name: str,
    value: Any,  # noqa: ANN401
    shipped: frozenset[str],
    limit_bytes: int,
) -> Result:
    from jupyter_aios.training.packing.pickling import dump_values

    kind = "state" if _is_module(value) else "pickle"
    path = target / f"{name}.{kind}"
    try:
        with _LimitedFile(path, limit_bytes) as file:
            if kind == "state":
                sys.modules["torch"].save(_state_dict(value), file)
            else:
                dump_values(value, file, shipped)
        return Result(name, kind, file.size_bytes)
    except _TooLargeError:
        error = f"larger than --pull-limit {format_bytes(limit_bytes)}"
    except Exception as problem:  # noqa: BLE001 - pickling runs the person's own code
        error = f"cannot be pickled: {type(problem).__name__}: {problem}"
    path.unlink(missing_ok=True)
    return Result(name, "none", 0, error)


def _is_module(value: Any) -> bool:  # noqa: ANN401
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _state_dict(module: Any) -> dict[str, Any]:  # noqa: ANN401 - torch is not imported here
    """Return the weights on the CPU, of the model itself rather than of its DDP wrapper."""
    inner = module
    while type(inner).__name__ in ("DistributedDataParallel", "DataParallel", "OptimizedModule"):
        inner = getattr(inner, "_orig_mod", None) or inner.module
    return {
        name: value.detach().cpu() if hasattr(value, "detach") else value
        for name, value in inner.state_dict().items()
    }


def load_index(folder: Path) -> tuple[Result, ...]:
    """Return what an attempt left, in the order in which it was asked for."""
    listed = read_json(folder / "results" / "index.json") or []
    return tuple(from_plain(Result, item) for item in listed)
