"""The first and the last thing a rank does, under either launcher.

First it becomes what torchrun would have made: environment, arguments, a real `__main__`, no
keyboard. Last it ends in an order that cannot hang: threads, atexit handlers, the person's
objects, the process group, open files, and `os._exit`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from jupyter_aios.core.events import EventKind, event_stream
from jupyter_aios.errors import AiosError, InputError
from jupyter_aios.training import (
    checkpoint,
    context,
    guards,
    loading,
    results,
    secrets,
    seeding,
)
from jupyter_aios.training.doctor import rank as doctor
from jupyter_aios.training.journal import Journal
from jupyter_aios.training.kept.serving import KeptRank

if TYPE_CHECKING:
    import types

    from jupyter_aios.core.entities import Code
    from jupyter_aios.core.ports import LaunchPlan, RankPlan

INTERRUPTED = 130


def main(
    plan: LaunchPlan,
    folder: Path,
    index: int,
    resume: checkpoint.Checkpoint | None,
    master: tuple[str, int] | None,
    *,
    delivery: secrets.Delivery,
) -> NoReturn:
    """Be rank `plan.ranks[index]`. Never returns.

    Args:
        plan: the attempt.
        folder: the attempt's folder.
        index: which rank.
        resume: the checkpoint to go on from.
        master: address and port of the store, where the agent hosts it; torch elastic has
            already set both.
        delivery: the secrets that the job was given.

    """
    rank_plan = plan.ranks[index]
    journal = Journal(folder / event_stream(rank_plan.rank), delivery.redaction)
    rank = context.RankContext(rank_plan.rank, len(plan.ranks), journal, folder, resume)
    main_module = loading.make_main()
    code = 1
    try:
        if master is not None:
            _set_environment(plan, rank_plan, master)
        secrets.enter(delivery, plan.secrets)
        _prepare(plan, rank_plan, rank)
        context.enter(rank)
        journal.record(EventKind.PHASE, phase="started", pid=os.getpid())
        returned = _run(plan, main_module)
        code = 0
        if rank_plan.rank == 0:
            _save_results(plan, folder, main_module, returned, rank)
        returned = None
        if plan.keep_idle_s is not None:
            _keep(plan, folder, main_module, rank)
    except SystemExit as stop:
        code = _exit_code(stop)
        if code == 0 and rank_plan.rank == 0:
            _save_results(plan, folder, main_module, None, rank)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - whatever the person's code raised
        journal.record(EventKind.ERROR, **_describe(error, plan.code, Path(plan.folder)))
    context.record_last_step()
    _warn_if_not_restored(rank)
    journal.record(EventKind.PHASE, phase="ending", code=code)
    _end(main_module, code)


def _run(plan: LaunchPlan, main_module: types.ModuleType) -> Any:  # noqa: ANN401
    try:
        return loading.run(plan.code, Path(plan.folder), main_module)
    except SystemExit as stop:
        # Of ranks that are kept it ends the code, not the ranks.
        if plan.keep_idle_s is None or stop.code not in (None, 0):
            raise
        return None


def _keep(
    plan: LaunchPlan, folder: Path, main_module: types.ModuleType, rank: context.RankContext
) -> None:
    shipped = frozenset(entry.name for entry in plan.code.manifest)
    context.record_so_far()
    KeptRank(folder, rank, main_module, shipped, _describe).serve()
    if rank.rank == 0:
        # What --pull keeps is what it is at the end.
        _save_results(plan, folder, main_module, None, rank)


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code & 0xFF
    print(stop.code, file=sys.stderr)  # noqa: T201 - what the interpreter does
    return 1


def _set_environment(plan: LaunchPlan, rank: RankPlan, master: tuple[str, int]) -> None:
    os.environ.clear()
    os.environ.update(plan.environment)
    os.environ.update(rank.environment)
    os.environ.update(MASTER_ADDR=master[0], MASTER_PORT=str(master[1]))


def _prepare(plan: LaunchPlan, rank_plan: RankPlan, rank: context.RankContext) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.umask(0o077)
    try:
        os.chdir(plan.cwd)
    except OSError as error:
        msg = f"the job's folder {plan.cwd} cannot be entered: {error.strerror}"
        raise InputError(msg, hint="submit from a folder that stays") from None
    # Lines appear when they are printed, and an interrupted rank loses none.
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115, PTH123 - for the rank's life
    sys.stdout = _stream(1)
    sys.stderr = _stream(2)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    last = plan.code.files[-1]
    sys.argv = [last.original or last.origin, *plan.argv]
    own = [entry for entry in plan.sys_path if entry not in sys.path]
    sys.path[:0] = [str(Path(last.original).parent)] if last.original else []
    sys.path += own
    if not last.original and "" not in sys.path:
        sys.path.insert(0, "")
    guards.strip_interactive()
    guards.refuse_keyboard()
    guards.limit_memory(plan.memory_limit_bytes)
    has_gpu = bool(os.environ.get("CUDA_VISIBLE_DEVICES"))
    _prepare_torch(rank_plan, plan, rank, has_gpu=has_gpu)


def _prepare_torch(
    rank_plan: RankPlan, plan: LaunchPlan, rank: context.RankContext, *, has_gpu: bool
) -> None:
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    # In a fork OMP_NUM_THREADS comes too late.
    torch.set_num_threads(rank_plan.threads)
    seeding.seed_generators(plan.seed, rank_plan.rank)
    guards.guide_backend(plan.backend, has_gpu=has_gpu, notice=rank.notice)
    guards.keep_destroyed_groups()
    guards.explain_all_reduce()
    register_optimizer_step_post_hook(context.count_step)
    rank.vitals = doctor.install(rank.attempt_folder, rank.rank, rank.world_size)
    if plan.autolog:
        from jupyter_aios.training.curves.installing import install

        install(rank)


def _stream(descriptor: int) -> io.TextIOWrapper:
    raw = open(descriptor, "wb", buffering=-1, closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _save_results(
    plan: LaunchPlan,
    folder: Path,
    main_module: types.ModuleType,
    returned: Any,  # noqa: ANN401
    rank: context.RankContext,
) -> None:
    values = {name: main_module.__dict__.get(name, results.MISSING) for name in plan.pull}
    if plan.code.function:
        values[results.RETURNED] = returned
    if values:
        shipped = frozenset(entry.name for entry in plan.code.manifest)
        results.save(folder, values, shipped, plan.pull_limit_bytes, rank.notice)


def _describe(error: BaseException, code: Code, folder: Path) -> dict[str, str]:
    """Return an error's kind, message and traceback as the person should see them."""
    message = str(error.message if isinstance(error, AiosError) else error) or "no message"
    if isinstance(error, AiosError) and error.hint:
        message += f"\nhint: {error.hint}"
    kind = type(error).__name__
    if isinstance(error, MemoryError) or "out of memory" in message or "allocate memory" in message:
        message += "\nhint: the rank ran out of memory: a smaller batch, or a larger --memory"
    shown = loading.format_error(error, code, folder)
    # Before anything is cut: half a secret would not be found any more.
    redact = secrets.redactor()
    # A frame has an end; a message of megabytes (a printed tensor) has its head and its tail.
    return {"kind": kind, "message": redact(message)[:4000], "traceback": redact(shown)[-60000:]}


def _warn_if_not_restored(rank: context.RankContext) -> None:
    if rank.resume is not None and not rank.has_restored and rank.rank == 0:
        rank.notice(
            f"the checkpoint of step {rank.resume.step} was not used: the code does not call"
            " aios.restore(...), so it started at step 0"
        )


def _end(main_module: types.ModuleType, code: int) -> NoReturn:
    """End the process with `code`, whatever the person's code left behind."""
    try:
        if code == 0:
            threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - joins threads, as an interpreter's end does
        atexit._run_exitfuncs()  # noqa: SLF001 - os._exit would skip them
    except BaseException:  # noqa: BLE001 - an atexit handler of the person's
        traceback.print_exc()
    try:
        _flush_files()
        if code == 0:
            # Dropped before the process group: the other order hung 3 of 68 exits, in
            # ~Reducer waiting for a mutex of ~ProcessGroupGloo.
            main_module.__dict__.clear()
            sys.last_value = sys.last_traceback = None
            gc.collect()
            _flush_files()
            _destroy_process_group()
    except BaseException:  # noqa: BLE001 - the work is done; how it ends is told, not fatal
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _flush_files() -> None:
    """Flush what the person opened and did not close; text layers before their buffers."""
    text, binary = [], []
    for item in gc.get_objects():
        # By type: isinstance would ask the lazy proxies of some libraries who they are.
        if issubclass(type(item), io.TextIOWrapper):
            text.append(item)
        elif issubclass(type(item), (io.BufferedWriter, io.BufferedRandom)):
            binary.append(item)
    for file in (*text, *binary):
        with contextlib.suppress(OSError, ValueError):
            if not file.closed and file.writable():
                file.flush()


def _destroy_process_group() -> None:
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
