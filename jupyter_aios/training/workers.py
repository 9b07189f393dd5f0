"""Worker processes of a rank find its `__main__`: data loaders, pools and queues, however started.

A forked worker has everything. `spawn` and `forkserver` start from nothing: Python would run the
rank's cell once more in each worker, and pickle refuses lambdas. So a worker gets the definitions
of the rank's `__main__` by value instead, before the process object is loaded, and that may hold
lambdas and closures. A script keeps what it has under any launcher: Python's own way.
"""

from __future__ import annotations

import collections
import io
import multiprocessing.process
import multiprocessing.reduction
import multiprocessing.spawn
import pickle
import sys
from multiprocessing.context import get_spawning_popen
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import CodeType

LIMIT_BYTES = 64 * 1024
"""Of a value that no worker asked for but some function reads: larger ones stay in the rank."""
_INIT = ("init_main_from_name", "init_main_from_path")


def install() -> None:
    """Let worker processes have the definitions of this process's `__main__`. Idempotent."""
    spawn, reduction = multiprocessing.spawn, multiprocessing.reduction
    if hasattr(reduction.dump, "__wrapped__"):
        return
    dump, prepare = reduction.dump, spawn.get_preparation_data

    def dump_with_main(obj: Any, file: Any, protocol: int | None = None) -> None:  # noqa: ANN401
        if isinstance(obj, multiprocessing.process.BaseProcess):
            _dump_process(obj, file)
        else:
            dump(obj, file, protocol)

    def prepare_without_main(name: str) -> dict[str, Any]:
        return {key: value for key, value in prepare(name).items() if key not in _INIT}

    dump_with_main.__wrapped__ = dump  # type: ignore[attr-defined]
    reduction.dump = dump_with_main
    spawn.get_preparation_data = prepare_without_main


class _Loaded:
    """A process object on its way: what it is made of comes first."""

    def __init__(self, main: bytes, process: bytes) -> None:
        self._state = main, process

    def __reduce__(self) -> tuple[Any, ...]:
        return load, self._state


def load(main: bytes, process: bytes) -> Any:  # noqa: ANN401 - the process object
    """Fill `__main__`, and return the process object. Pickles call it."""
    namespace = vars(sys.modules["__main__"])
    stream = io.BytesIO(main)
    unpickler = pickle.Unpickler(stream)  # noqa: S301 - written by the rank, as below
    while stream.tell() < len(main):
        namespace.update(unpickler.load())
    return pickle.loads(process)  # noqa: S301 - written by the rank that started this worker


def _dump_process(process: Any, file: Any) -> None:  # noqa: ANN401 - multiprocessing's
    main = _Main(vars(sys.modules["__main__"]))
    body = io.BytesIO()
    _pickler(body, main).dump(process)
    definitions = main.pickled()
    pickle.dump(_Loaded(definitions, body.getvalue()), file, pickle.HIGHEST_PROTOCOL)
    # A tensor may be in both parts, but `spawn` cannot hand a descriptor on twice. (A fork server
    # numbers them by their order, and can.)
    if getattr(get_spawning_popen(), "method", "") == "spawn":
        _descriptors()[:] = dict.fromkeys(_descriptors())


def _descriptors() -> list[int]:
    """Return what the process that is being started inherits."""
    found: list[int] = getattr(get_spawning_popen(), "_fds", [])
    return found


def _pickler(file: Any, references: Any) -> Any:  # noqa: ANN401 - cloudpickle has no types
    from jupyter_aios.training.packing.pickling import Pickler

    class ProcessPickler(Pickler):
        """The notebook's pickler, with multiprocessing's reducers."""

        # Pipes, locks and shared tensors: what may be handed to a process that is being started.
        # An attribute of the class, because pickle looks before anything could be set on a pickler.
        dispatch_table: ClassVar[Any] = collections.ChainMap(
            _extra_reducers(), *Pickler.dispatch_table.maps
        )

    return ProcessPickler(file, references)


def _extra_reducers() -> dict[Any, Any]:
    found: dict[Any, Any] = multiprocessing.reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined] # noqa: SLF001
    return found


class _Main:
    """What a worker's `__main__` has to hold, found out while the process object is written."""

    storages = None

    def __init__(self, namespace: Mapping[str, object]) -> None:
        self.namespace = namespace
        self._wanted: dict[str, None] = {}
        self._is_written = False

    def pickled(self) -> bytes:
        """Return pickles of {name: value}, to be loaded one after the other.

        First what the process object reads; then all definitions, because a pool may be asked for
        any of them later, with what they read.
        """
        from jupyter_aios.training.packing.lookup import is_definition

        stream = io.BytesIO()
        pickler = _pickler(stream, self)
        self._is_written = True
        asked = len(self._wanted)
        for name, value in self.namespace.items():
            if is_definition(value):
                self.want(name, "")
        done = 0
        while done < len(self._wanted):
            name = list(self._wanted)[done]
            value = {name: self.namespace[name]}
            is_asked = done < asked or isinstance(value[name], ModuleType)
            if self._fits(value, None if is_asked else LIMIT_BYTES):
                pickler.dump(value)
            done += 1
        return stream.getvalue()

    def _fits(self, value: dict[str, object], limit_bytes: int | None) -> bool:
        """Try on the side: a pickler that has failed remembers what it has not written.

        What cannot be pickled stays in the rank; only who uses it in a worker will miss it.
        """
        before = len(_descriptors())
        try:
            _pickler(_Trial(limit_bytes), self).dump(value)
        except Exception:  # noqa: BLE001 - pickling runs the objects' own code
            return False
        finally:
            del _descriptors()[before:]
        return True

    # ---------------------------------------------------------------- what the pickler asks

    def reference(self, value: object) -> str:
        """Return the dotted name under which the worker has `value`, or nothing."""
        from jupyter_aios.training.packing.lookup import is_definition, resolve

        if self._is_written or not is_definition(value):
            return ""
        path = str(value.__qualname__)  # type: ignore[attr-defined]
        root = path.partition(".")[0]
        if root not in self.namespace or resolve(self.namespace[root], path) is not value:
            return ""
        self.want(root, "")
        return path

    def want(self, name: str, reader: str) -> None:  # noqa: ARG002 - of packing's interface
        """Take a global along that something by value reads."""
        if name in self.namespace and not name.startswith("__"):
            self._wanted.setdefault(name)

    def want_annotation(self, name: str, reader: str) -> None:
        """Leave annotations alone: nothing in a worker asks for them."""

    def written_in(self, code: CodeType) -> str:
        """Return where the source lies: a worker sees the rank's files."""
        return code.co_filename

    def lose(self, what: str) -> None:
        """Lose it, as Python's own pickles do."""


class _Trial:
    """A file that keeps nothing, and refuses more than its limit."""

    def __init__(self, limit_bytes: int | None) -> None:
        self._left = limit_bytes

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        size = memoryview(data).nbytes
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise OverflowError
        return size
