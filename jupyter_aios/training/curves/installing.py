"""Where capture touches torch: one function replaced, two hooks, and a few methods that tell.

What dynamo traces of these must vanish: while it compiles, each of them is the original. What it
meets at run time it must not compile, so from the first `torch.compile` on the functions are marked
to be left alone, and what they call runs outside of it.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from threading import get_ident
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from jupyter_aios.training import context
from jupyter_aios.training.curves.capture import Capture
from jupyter_aios.training.curves.libraries import watch_imports
from jupyter_aios.training.curves.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from jupyter_aios.training.curves.sites import Site


def install(rank: context.RankContext) -> Patches:
    """Capture what the code of this process does from now on; return what was replaced for it."""
    patches = Patches()
    capture = Capture(rank, patches)
    guard = _Guard(capture, patches)
    _replace_backward(guard, patches)
    _meet_optimizers(capture, patches)
    _hook_optimizers(guard, patches)
    _watch_compiler(guard, patches)
    capture.scaling.install(patches, capture.run_scaled_step)
    capture.batches.install(patches, guard.flush_between_steps)
    watch_imports(capture, patches)
    rank.capture = guard
    rank.may_be_traced = False
    # A worker of a DataLoader, or whatever the code forks, is no rank.
    os.register_at_fork(after_in_child=lambda: setattr(capture, "is_on", False))
    return patches


class _Guard:
    """What the replaced functions call: nothing of it fails, and dynamo sees none of it."""

    def __init__(self, capture: Capture, patches: Patches) -> None:
        self.capture = capture
        self.patches = patches
        self.see_backward = capture.see_backward
        self.backward_failed = capture.backward_failed
        self.backward_was_a_step = capture.backward_was_a_step
        self.step_is_over = capture.step_is_over
        self.flush_if_due = capture.flush_if_due

    def look(self, tensors: Any, gradients: Any, frame: FrameType) -> Sequence[Site]:  # noqa: ANN401
        """Look at a call to `backward`; return the sites that took a value."""
        try:
            return self.see_backward(tensors, gradients, frame)
        except Exception as error:  # noqa: BLE001 - see fail
            self.fail(error)
            return []

    def fail(self, error: Exception) -> None:
        """Give up: a curve is not worth a training."""
        self.capture.is_on = False
        self.capture.rank.notice_once(
            f"curves are no longer captured ({type(error).__name__}: {error});"
            " aios.log(loss=loss) draws one, --no-autolog does without"
        )

    def flush_between_steps(self) -> None:
        """Write what there is: evaluation makes no steps, and the last points should be seen."""
        if self.capture.commits:
            self._safely(self.flush_if_due)

    def settle(self) -> None:
        """Count a step that nobody told of."""
        self._safely(self.capture.settle)

    def flush(self, *, is_last: bool = False) -> None:
        """Write what there is; of code that is over, all of it."""
        self._safely(self.capture.flush, is_last=is_last)

    def finish(self) -> None:
        """Write everything, at the end of the code."""
        self._safely(self.capture.finish)

    def _safely(self, function: Callable[..., None], **options: bool) -> None:
        if self.capture.is_on:
            try:
                function(**options)
            except Exception as error:  # noqa: BLE001 - see fail
                self.fail(error)

    def meet_compiler(self) -> None:
        """Keep dynamo away from here; called at each `torch.compile`."""
        if self.capture.rank.may_be_traced:
            return
        from torch import _dynamo

        self.capture.rank.may_be_traced = True
        self.capture.batches.never_hook()
        for name in (
            "look",
            "backward_failed",
            "backward_was_a_step",
            "step_is_over",
            "flush_if_due",
        ):
            setattr(self, name, _dynamo.disable(getattr(self, name)))  # type: ignore[no-untyped-call]
        for function in (*self.patches.functions, context.count_step):
            _skip_frames_of(function)


def _skip_frames_of(function: Any) -> None:  # noqa: ANN401
    """Make dynamo run a function as it is where it meets a call, and still trace through it."""
    from torch._dynamo import eval_frame

    skip_code: Any = getattr(eval_frame, "skip_code", None)
    if skip_code is None:  # an older torch has it elsewhere
        from torch._C._dynamo import eval_frame as native

        skip_code = native.skip_code  # type: ignore[attr-defined]
    skip_code(function.__code__)


def _replace_backward(guard: _Guard, patches: Patches) -> None:
    original, capture, rank = torch.autograd.backward, guard.capture, guard.capture.rank
    plain, batches = capture.sites.plain, capture.batches
    is_compiling, thread, frame_of = torch.compiler.is_compiling, get_ident, sys._getframe  # noqa: SLF001
    tensor_class = torch.Tensor

    # After a step of a millisecond the caches hold nothing of ours: whatever is called or looked at
    # costs some of a microsecond. So the usual case (`loss.backward()` on the CPU, at a place that
    # is known) is dealt with right here, and of the frames only the person's is asked for.
    @functools.wraps(original)
    def backward(  # noqa: PLR0917 - the original's, which has all of them by position
        tensors: Any,  # noqa: ANN401
        grad_tensors: Any = None,  # noqa: ANN401
        retain_graph: Any = None,  # noqa: ANN401
        create_graph: Any = False,  # noqa: ANN401, FBT002
        grad_variables: Any = None,  # noqa: ANN401
        inputs: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        if not capture.is_on or (rank.may_be_traced and is_compiling()):
            return original(
                tensors, grad_tensors, retain_graph, create_graph, grad_variables, inputs
            )
        outer = capture.inside
        caller = frame_of(2)
        site = plain.get((id(caller.f_code), caller.f_lasti))
        seen: Sequence[Site]
        if (
            site is not None
            and not site.pending
            and not outer
            and grad_tensors is None
            and type(tensors) is tensor_class
            and tensors.is_cpu
        ):
            site.pending.append(tensors.item())
            capture.pending.append(site)
            if batches.waiting:
                batches.take()
            capture.inside = thread()
            seen = site.alone
        else:
            if not isinstance(tensors, (tensor_class, list, tuple)):
                tensors = tuple(tensors)  # a generator is empty at the second look
            gradients = grad_variables if grad_tensors is None else grad_tensors
            seen = guard.look(tensors, gradients, frame_of(1))
        try:
            result = original(
                tensors, grad_tensors, retain_graph, create_graph, grad_variables, inputs
            )
        except BaseException:
            guard.backward_failed(seen)
            raise
        finally:
            capture.inside = outer
        if not capture.hooks_are_live:
            guard.backward_was_a_step(seen)
        return result

    patches.replace(torch.autograd, "backward", backward)


def _meet_optimizers(capture: Capture, patches: Patches) -> None:
    """Know which optimizers there are, also those that were pickled."""
    optimizer_class = torch.optim.Optimizer
    original_init, original_setstate = optimizer_class.__init__, optimizer_class.__setstate__

    @functools.wraps(original_init)
    def init(optimizer: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        original_init(optimizer, *args, **kwargs)
        capture.see_optimizer(optimizer)

    @functools.wraps(original_setstate)
    def setstate(optimizer: Any, state: Any) -> None:  # noqa: ANN401
        original_setstate(optimizer, state)
        capture.see_optimizer(optimizer)

    patches.replace(optimizer_class, "__init__", init)
    patches.replace(optimizer_class, "__setstate__", setstate)


def _hook_optimizers(guard: _Guard, patches: Patches) -> None:
    capture, rank = guard.capture, guard.capture.rank
    clock, is_compiling = time.monotonic, torch.compiler.is_compiling

    def before(_optimizer: Any, args: Any, kwargs: Any) -> Any:  # noqa: ANN401
        if (len(args) == 1 and not kwargs) or (rank.may_be_traced and is_compiling()):
            return None
        if len(args) > 1 and callable(args[1]):
            return (args[0], _first_counts(capture, args[1]), *args[2:]), kwargs
        if callable(kwargs.get("closure")):
            return args, {**kwargs, "closure": _first_counts(capture, kwargs["closure"])}
        return None

    # As with `backward`: a step like the one before is dealt with right here.
    def after(optimizer: Any, _args: Any, _kwargs: Any) -> None:  # noqa: ANN401
        if not capture.is_on or (rank.may_be_traced and is_compiling()):
            return
        steady, pending, step = capture.steady, capture.pending, rank.step
        if (
            steady is not None
            and len(pending) == 1
            and pending[0] is steady.site
            and len(steady.site.pending) == 1
            and steady.optimizer == id(optimizer)
            and steady.rate is optimizer.param_groups[0]["lr"]
            and step <= steady.until
            and clock() < capture.due_at
        ):
            del pending[0]
            steady.line.step = step
            series = steady.site.series
            series.steps.append(step)
            series.values.append(steady.site.pending.pop())
            capture.commits += 1
            return
        try:
            guard.step_is_over(optimizer)
        except Exception as error:  # noqa: BLE001 - see fail
            guard.fail(error)

    patches.hook(register_optimizer_step_pre_hook, before)
    patches.hook(register_optimizer_step_post_hook, after)


def _first_counts(capture: Capture, closure: Callable[..., Any]) -> Callable[..., Any]:
    """Return the closure; of its evaluations the first counts, which is what step() returns."""
    evaluations = 0

    @functools.wraps(closure)
    def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        nonlocal evaluations
        evaluations += 1
        outer = capture.inside
        capture.inside = get_ident() if evaluations > 1 else outer
        try:
            return closure(*args, **kwargs)
        finally:
            capture.inside = outer

    return counted


def _watch_compiler(guard: _Guard, patches: Patches) -> None:
    original = torch.compile

    @functools.wraps(original)
    def compile_(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        guard.meet_compiler()
        return original(*args, **kwargs)

    patches.replace(torch, "compile", compile_)
