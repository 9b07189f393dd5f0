"""Wrappers of torch.distributed's functions that write into the rank's vitals what it is in.

They add some microseconds to a call that takes fifty and more. Only the outermost call counts:
`all_gather_object` is one entry, not three. While dynamo traces, they are the originals. DDP's own
exchange happens in C++ and passes none of them; there the stack tells.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_aios.training.doctor.vitals import NOBODY, OPERATIONS, PAIRWISE

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_aios.training.doctor.callers import Callers
    from jupyter_aios.training.doctor.vitals import VitalsWriter

_TENSOR = {
    "all_reduce": "tensor", "reduce": "tensor", "broadcast": "tensor", "all_gather": "tensor",
    "all_gather_into_tensor": "input_tensor", "all_gather_single": "input_tensor",
    "gather": "tensor", "scatter": "tensor", "reduce_scatter": "output",
    "reduce_scatter_tensor": "output", "reduce_scatter_single": "output",
    "send": "tensor", "recv": "tensor",
}  # fmt: skip
"""The argument on whose type and shape all ranks have to agree."""
_PEER = {"send": "dst", "recv": "src", "send_object_list": "dst", "recv_object_list": "src"}
_WRAPPED = frozenset(OPERATIONS) - {
    # The identity of these two is part of torch's interface (P2POp compares functions).
    "isend", "irecv", "batch_isend_irecv",
    "none", "init_process_group", "new_group",
}  # fmt: skip
_MOST_TEXTS = 1024


@dataclass(frozen=True)
class _Where:
    """At which position a function takes what is of interest; NOBODY where it does not."""

    group: int
    tensor: int
    tensor_name: str
    peer: int
    peer_name: str
    is_async: int


class Recorder:
    """Writes the rank's calls; made once per rank, after the fork."""

    def __init__(self, writer: VitalsWriter, callers: Callers, world_size: int) -> None:
        import torch
        import torch.distributed as dist

        self.writer = writer
        self._callers = callers
        self.world = frozenset(range(world_size))
        self._dist: Any = dist
        self._is_compiling = torch.compiler.is_compiling
        self._groups: dict[Any, int] = {}
        self._by_name: dict[str, int] = {}
        self._texts: dict[Any, bytes] = {}
        self._pending: tuple[int, int, bytes, int] | None = None
        self._main = threading.get_ident()
        self._owner = 0

    def install(self) -> None:
        """Put a wrapper in the place of every function of interest."""
        dist, c10d = self._dist, self._dist.distributed_c10d
        for operation, name in enumerate(OPERATIONS):
            if name in _WRAPPED and hasattr(c10d, name):
                self._replace(name, self._collective(operation, name, getattr(c10d, name)))
        for name in ("init_process_group", "new_group"):
            self._replace(name, self._gathering(OPERATIONS.index(name), name, getattr(dist, name)))
        self._replace("destroy_process_group", self._destroying(dist.destroy_process_group))
        work = c10d.Work
        work.wait = self._waiting(work.wait)
        os.register_at_fork(after_in_child=self._forget)

    def _replace(self, name: str, wrapper: Callable[..., Any]) -> None:
        for module in (self._dist, self._dist.distributed_c10d):
            setattr(module, name, wrapper)

    def _forget(self) -> None:
        """A forked child is not this rank: nothing that it does may be told as the rank's."""
        self._owner = -1

    def _collective(
        self, operation: int, name: str, original: Callable[..., Any]
    ) -> Callable[..., Any]:
        where = _where(name, original)
        is_compiling, writer = self._is_compiling, self.writer

        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            # Not for other threads either: what holds the rank up is where its main thread is.
            if is_compiling() or self._owner or threading.get_ident() != self._main:
                return original(*args, **kwargs)
            self._owner = 1
            try:
                slot = self._slot(_argument(args, kwargs, where.group, "group"), where.peer)
                if slot == NOBODY:
                    return original(*args, **kwargs)
                what, peer = b"", NOBODY
                if where.tensor != NOBODY:
                    what = self._what(_argument(args, kwargs, where.tensor, where.tensor_name))
                if where.peer != NOBODY:
                    peer = _argument(args, kwargs, where.peer, where.peer_name)
                    peer = peer if isinstance(peer, int) else NOBODY
                number = writer.enter(operation, slot, what, self._place(), peer)
                result = self._inside(number, original, args, kwargs)
                is_async = _argument(args, kwargs, where.is_async, "async_op")
                self._pending = (operation, slot, what, peer) if is_async else None
            finally:
                self._owner = 0
            return result

        return call

    def _inside(
        self,
        number: int,
        original: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:  # noqa: ANN401
        """Make a call that was told to begin, and tell that it has returned or raised."""
        try:
            result = original(*args, **kwargs)
        except BaseException:
            self.writer.leave_raised(number)
            raise
        self.writer.leave(number)
        return result

    def _waiting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap Work.wait: the rank is in the newest call, if that was begun without waiting."""
        writer = self.writer

        @functools.wraps(original)
        def wait(work: Any, *args: Any) -> Any:  # noqa: ANN401
            pending = self._pending
            if pending is None or self._owner or threading.get_ident() != self._main:
                return original(work, *args)
            operation, slot, what, peer = pending
            number = writer.wait(operation, slot, what, self._place(), peer)
            return self._inside(number, original, (work, *args), {})

        return wait

    def _gathering(
        self, operation: int, name: str, original: Callable[..., Any]
    ) -> Callable[..., Any]:
        """Wrap a function that every rank has to call before any of them goes on."""

        @functools.wraps(original)
        def gather(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            is_local = kwargs.get("use_local_synchronization", False)
            if is_local or self._owner or threading.get_ident() != self._main:
                return original(*args, **kwargs)
            self._owner = 1
            self._groups.clear()
            try:
                slot = self._named(name, self.world)
                if slot == NOBODY:
                    return original(*args, **kwargs)
                number = self.writer.enter(operation, slot, b"", self._place(), NOBODY)
                return self._inside(number, original, args, kwargs)
            finally:
                self._owner = 0

        return gather

    def _destroying(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def destroy_process_group(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            # The keys hold the groups, and a group has to go when it is destroyed.
            self._groups.clear()
            return original(*args, **kwargs)

        return destroy_process_group

    def _slot(self, group: Any, peer_at: int) -> int:  # noqa: ANN401
        key = group if peer_at == NOBODY else (group, "p2p")
        try:
            return self._groups[key]
        except KeyError:
            if group is None:
                group = self._dist.distributed_c10d.GroupMember.WORLD
            slot = self._groups[key] = self._new_slot(group, is_p2p=peer_at != NOBODY)
            return slot
        except TypeError:
            return NOBODY

    def _new_slot(self, group: Any, *, is_p2p: bool) -> int:  # noqa: ANN401
        try:
            name = str(group.group_name)
            members = frozenset(self._dist.get_process_group_ranks(group))
        except (AttributeError, KeyError, RuntimeError, ValueError):
            return NOBODY  # of another kind, or not this rank's: the original will say so
        return self._named(f"{name}{PAIRWISE}" if is_p2p else name, members)

    def _named(self, name: str, members: frozenset[int]) -> int:
        if name not in self._by_name:
            self._by_name[name] = self.writer.add_group(name, members)
        return self._by_name[name]

    def _what(self, tensor: Any) -> bytes:  # noqa: ANN401
        try:
            key = (tensor.dtype, tensor.shape)
            return self._texts[key]
        except KeyError:
            if len(self._texts) >= _MOST_TEXTS:
                self._texts.clear()
            dtype = str(tensor.dtype).removeprefix("torch.")
            text = self._texts[key] = f"{dtype} {list(tensor.shape)}".encode()
            return text
        except (AttributeError, TypeError):
            return b""

    def _place(self) -> int:
        """Return the line of the person's that called the wrapper."""
        return self._callers.place(sys._getframe(2))  # noqa: SLF001 - the way to a caller's frame


def _where(name: str, original: Callable[..., Any]) -> _Where:
    parameters = list(inspect.signature(original).parameters)

    def at(parameter: str) -> int:
        return parameters.index(parameter) if parameter in parameters else NOBODY

    tensor, peer = _TENSOR.get(name, ""), _PEER.get(name, "")
    return _Where(at("group"), at(tensor), tensor, at(peer), peer, at("async_op"))


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], at: int, name: str) -> Any:  # noqa: ANN401
    if at == NOBODY:
        return None
    return args[at] if at < len(args) else kwargs.get(name)
