"""What a rank must not do as a notebook would, and what it must do although the code says else."""

from __future__ import annotations

import builtins
import functools
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from jupyter_aios.core.entities import Backend
from jupyter_aios.errors import InputError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable


def refuse_keyboard() -> None:
    """Make `input()` and `breakpoint()` errors: a rank has no keyboard, and would wait forever."""

    def no_input(_prompt: object = "") -> NoReturn:
        msg = "input() in a rank would wait forever: ranks have no keyboard"
        raise StateError(msg, hint="ask in an earlier cell; the variable travels with the cell")

    def no_breakpoint(*_: object, **__: object) -> NoReturn:
        msg = "breakpoint() in a rank would wait forever: ranks have no keyboard"
        raise StateError(msg, hint="print what you want to see, or run the cell without the magic")

    builtins.input = no_input
    sys.breakpointhook = no_breakpoint
    # pdb.set_trace() does not pass the hook; a subprocess may read, and finds the end.
    import pdb  # noqa: T100 - to disarm it

    pdb.set_trace = no_breakpoint


def guide_backend(backend: Backend, *, has_gpu: bool, notice: Callable[[str], None]) -> None:
    """Let `--backend` decide what a literal `init_process_group("nccl")` gets.

    With gloo asked for, the literal is overridden and the person is told. Without a GPU, nccl is
    an error with the hint, instead of the library's own.
    """
    import torch.distributed as dist

    if not dist.is_available():
        return
    original = dist.init_process_group

    @functools.wraps(original)
    def init_process_group(backend_: str | None = None, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        wanted = kwargs.pop("backend", backend_)
        if wanted is None and backend is not Backend.AUTO:
            wanted = backend.value
        if wanted is not None and "nccl" in str(wanted):
            if backend is Backend.GLOO:
                notice(f"--backend gloo overrides init_process_group({str(wanted)!r})")
                wanted = "gloo"
            elif not has_gpu:
                msg = f"init_process_group({str(wanted)!r}) needs a GPU per rank, and there is none"
                raise InputError(msg, hint="add --backend gloo to the cell's first line")
        return original(wanted, *args, **kwargs)

    for module in (dist, dist.distributed_c10d):
        setattr(module, original.__name__, init_process_group)


def keep_destroyed_groups() -> None:
    """Let a process group outlive the model that was trained with it, as far as the next group.

    `destroy_process_group` in a function whose model is still there leaves the last reference to
    the model. Its end, in ~Reducer, joins gloo's threads while it holds the interpreter's lock,
    and a thread that still has a finished all-reduce to drop waits for that lock: the rank never
    ends. A reference of Python's is dropped without the lock.
    """
    import torch.distributed as dist

    if not dist.is_available():
        return
    kept: list[object] = []
    destroy, init = dist.destroy_process_group, dist.init_process_group

    @functools.wraps(destroy)
    def destroy_process_group(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        kept[:] = {*kept, *dist.distributed_c10d._world.pg_map}  # noqa: SLF001 - nothing public lists all groups
        return destroy(*args, **kwargs)

    @functools.wraps(init)
    def init_process_group(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        # By now its threads are idle. It may hold the port of a store.
        kept.clear()
        return init(*args, **kwargs)

    for module in (dist, dist.distributed_c10d):
        setattr(module, destroy.__name__, destroy_process_group)
        setattr(module, init.__name__, init_process_group)


def explain_all_reduce() -> None:
    """Let `dist.all_reduce(model.parameters())` fail with the two ways that do what is meant.

    The library would complain of a type. A sum of weights after the update is not what is meant
    either: gradients are averaged, before it.
    """
    import torch
    import torch.distributed as dist

    if not dist.is_available():
        return
    original = dist.all_reduce

    @functools.wraps(original)
    def all_reduce(tensor: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if not torch.compiler.is_compiling() and not isinstance(tensor, torch.Tensor):
            msg = (
                f"dist.all_reduce takes one tensor and sums it over the ranks, not {_kind(tensor)}"
            )
            raise InputError(
                msg,
                hint="to train one model on all ranks, wrap it before the loop:\n"
                "    model = torch.nn.parallel.DistributedDataParallel(model)\n"
                "or average the gradients between backward() and optimizer.step():\n"
                "    for p in model.parameters():\n"
                "        dist.all_reduce(p.grad)\n"
                "        p.grad /= dist.get_world_size()",
            )
        return original(tensor, *args, **kwargs)

    for module in (dist, dist.distributed_c10d):
        setattr(module, original.__name__, all_reduce)


def _kind(value: object) -> str:
    """Return what a value is, with its length where it has one."""
    many = f" of {len(value)}" if isinstance(value, (list, tuple, dict)) else ""
    return f"a {type(value).__name__}{many}"


def limit_memory(limit_bytes: int) -> None:
    """Make allocations beyond `--memory` fail with an error that names them.

    RLIMIT_DATA counts private writable pages; address space (RLIMIT_AS) would count what torch
    merely reserves.
    """
    if limit_bytes:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (limit_bytes, limit_bytes))


def strip_interactive() -> None:
    """Look like a program: libraries refuse to start workers where a prompt exists."""
    for name in ("ps1", "ps2"):
        if hasattr(sys, name):
            delattr(sys, name)
    os.environ.pop("PYTHONINSPECT", None)
