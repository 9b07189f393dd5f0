"""Loss, step, learning rate, samples per second and progress of a loop that knows nothing of it.

`backward` is where a loss is certain to come by, and an optimizer's step is where a point on the
axis is certain to be made; what happens between the two is part of that step. Everything here is
called by the person's loop, so it must be quick, wait for no device, and never fail the training.
"""

from __future__ import annotations

import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import torch

from jupyter_aios.core.events import EventKind
from jupyter_aios.training import context
from jupyter_aios.training.curves import sources
from jupyter_aios.training.curves.batches import FINGERPRINTS, Batches
from jupyter_aios.training.curves.progress import ParameterWatch, Progress, have_gradients
from jupyter_aios.training.curves.rates import Rates
from jupyter_aios.training.curves.scaling import Scaling
from jupyter_aios.training.curves.series import Recorder
from jupyter_aios.training.curves.sites import Sites, Steady
from jupyter_aios.training.curves.values import CudaLane, DeviceNumbers, Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from jupyter_aios.training.curves.patches import Patches
    from jupyter_aios.training.curves.series import Later
    from jupyter_aios.training.curves.sites import Site

FIRST_S, FIRST_EVERY_S, EVERY_S = 1.0, 0.1, 0.5
"""Points are written at the first step, then so often in the first second, and then so often: each
writing wakes agent, controller and view, which takes time from the ranks."""

WORTH_A_WORD_S = 5.0
"""A program with torch that took less may have had nothing to draw."""

LOG_INSTEAD = "aios.log(loss=loss) draws a curve"


class Capture:
    """What has been seen of the loop, and what of it has been written."""

    def __init__(self, rank: context.RankContext, patches: Patches) -> None:
        self.rank = rank
        self.patches = patches
        self.is_on = True
        self.recorder = Recorder(rank.journal)
        self.numbers = Numbers(DeviceNumbers(CudaLane()))
        self.sites = Sites(self.recorder)
        self.rates = Rates(self.recorder, self.numbers)
        self.scaling = Scaling()
        self.batches = Batches(wants_fingerprints=rank.world_size > 1)
        self.has_seen_backward = False
        self.commits = 0
        self._lock = threading.RLock()
        self.inside = 0
        """The thread that is in something that has been seen as a whole: a `backward`, or a closure
        that is evaluated again."""
        self.pending: list[Site] = []
        """The sites that are part of the step that is being made."""
        self.steady: Steady | None = None
        self.gradients_show = False
        """A step had gradients where torch keeps them; some libraries keep them elsewhere."""
        self._optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self.hooks_are_live = False
        """Steps are seen as they are made. Compiled ones are not, and neither are one's own."""
        self._parameters = ParameterWatch()
        self.due_at = 0.0
        self._begun_at = 0.0
        self.progress = Progress(rank.journal)
        self._made_at = time.monotonic()
        self._unseen = ""
        """A library whose loops are not seen, and which was imported."""

    # --------------------------------------------------------------------------- what a loop does

    def see_backward(self, tensors: Any, gradients: Any, frame: FrameType | None) -> list[Site]:  # noqa: ANN401
        """Take the values of the roots; return the sites that did, for `backward_failed`."""
        thread = threading.get_ident()
        if self.inside == thread:
            return []
        with self._lock:
            caller = sources.caller_of(frame)
            if caller is None:
                return []
            if not self.hooks_are_live:
                self.settle()
            if self.pending and self.gradients_show and not have_gradients(self._optimizers):
                self._forget_pending()
            self.batches.take()
            roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            sites = self.sites.at(caller, len(roots), self.rank.step)
            if not sites:
                return []
            self.has_seen_backward = True
            self.inside = thread
            if gradients is not None:
                self.rank.notice_once(
                    "a backward(gradient) is not captured: it is of many numbers, not of one loss;"
                    f" {LOG_INSTEAD}"
                )
                return []
            if not self.hooks_are_live:
                self._parameters.look(self._optimizers)
            is_usual = self.hooks_are_live and not self.scaling.is_used
            is_method = frame is not None and frame.f_code is sources.TENSOR_BACKWARD
            if len(sites) == 1 and sites[0].is_plain and is_usual and is_method:
                self.sites.plain[id(caller.f_code), caller.f_lasti] = sites[0]
            return [s for s, root in zip(sites, roots, strict=True) if self._see_root(s, root)]

    def _see_root(self, site: Site, root: Any) -> bool:  # noqa: ANN401
        before: Any = self.scaling.unscaled(root) if self.scaling.is_used else root
        if type(before) is torch.Tensor and before.is_cpu:
            value: float | Later | None = float(before.item())
        else:
            value = self._read_other(site, before)
        if value is None:
            return False
        if not site.pending:
            self.pending.append(site)
        site.see(value, before)
        return True

    def _read_other(self, site: Site, root: Any) -> float | Later | None:  # noqa: ANN401
        """Return the value of what is no plain tensor on the CPU; None, with a word, if unknown."""
        why = "its loss is scaled by a GradScaler in a way that cannot be undone"
        if isinstance(root, torch.Tensor):
            is_plain = type(root) in (torch.Tensor, torch.nn.Parameter)
            value = self.numbers.read(root) if is_plain else None
            if value is not None:
                return value
            why = "reading its loss would wait for the device"
        self.rank.notice_once(f"{site.how} is not captured: {why}; {LOG_INSTEAD}")
        return None

    def backward_failed(self, seen: Sequence[Site]) -> None:
        """Forget the values of a `backward` that raised."""
        with self._lock:
            for site in seen:
                site.forget()
            self.pending = [site for site in self.pending if site.pending]

    def backward_was_a_step(self, seen: Sequence[Site]) -> None:
        """Count `backward` as a step where nothing else will: there is no torch.optim at all."""
        if not seen or self.hooks_are_live or self._optimizers:
            return
        with self._lock:
            for site in seen:
                site.series.how = f"{site.how}; each is a step, for there is no torch.optim"
            context.count_step(seen[0])
            self.commit()
            self.flush_if_due()

    def _forget_pending(self) -> None:
        """Forget losses whose gradients were thrown away: no step is made of them.

        An iteration was interrupted, or the gradient of an input was wanted.
        """
        for site in self.pending:
            site.pending.clear()
            site.divisors.clear()
        self.pending.clear()

    def see_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Note that there is an optimizer."""
        self._optimizers.add(optimizer)

    def step_is_over(self, optimizer: torch.optim.Optimizer) -> None:
        """Note a step of an optimizer; the rank has counted it."""
        with self._lock:
            self.hooks_are_live = True
            pending, step = self.pending, self.rank.step
            if not self.gradients_show:
                self.gradients_show = have_gradients((optimizer,))
            rate, line = self.rates.see(optimizer, step)
            if not self.has_seen_backward and step > 1:
                self.rank.notice_once(f"the optimizer steps, but no loss was seen: {LOG_INSTEAD}")
            self.commit()
            is_steady = len(pending) == 1 and pending[0].is_plain and not self.scaling.is_used
            self.steady = None
            if is_steady and line is not None and self.commits > FINGERPRINTS:
                until = self.progress.holds_until(step)
                self.steady = Steady(pending[0], id(optimizer), rate, line, until)
            self.flush_if_due()

    def run_scaled_step(self, run: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Run a step of a GradScaler; where it is left out, its loss still has a point."""
        before = self.commits
        result = run()
        if self.commits == before and self._hooks_or_no_steps():
            with self._lock:
                self.commit()
                self.flush_if_due()
        return result

    def _hooks_or_no_steps(self) -> bool:
        return self.hooks_are_live or not self._parameters.have_changed()

    # ------------------------------------------------------------------- steps that no hook sees

    def settle(self) -> None:
        """Count a step that nobody told of, before somebody reads the step counter.

        The hooks of an optimizer are not called in compiled code. Its parameters have changed.
        """
        if self.hooks_are_live or not self.pending or not self._parameters.have_changed():
            return
        with self._lock:
            context.count_step(self)
            for optimizer in self._optimizers:
                self.rates.see(optimizer, self.rank.step)
            self.commit()
            self.flush_if_due()

    # -------------------------------------------------------------------------------- points

    def commit(self) -> None:
        """Make what is pending the points of the step that was just counted."""
        self.commits += 1
        step = self.rank.step
        pending, self.pending = self.pending, []
        for site in pending:
            site.commit(step)
            if not site.is_plain:
                self.sites.plain.clear()
        if pending:
            self.progress.infer(pending[0], step)
        if self.scaling.is_used:
            self.scaling.step_is_over()
        if self.commits == FINGERPRINTS:
            self._tell_fingerprints()

    def add(self, name: str, how: str, value: Any) -> None:  # noqa: ANN401
        """Add a point, at the step that was counted last, of something a library told."""
        value = getattr(value, "value", value)
        number = self.numbers.read(value) if hasattr(value, "is_cpu") else float(value)
        if number is not None:
            with self._lock:
                self.recorder.series(name, how).add(self.rank.step, number)

    def count_keras_step(self, callback: Any) -> None:  # noqa: ANN401
        """Count a batch that Keras trained on."""
        with self._lock:
            context.count_step(callback)

    def meet_unseen(self, library: str) -> None:
        """Say that a library's own loops are not seen, where no loss has been."""
        self._unseen = library
        if not self.has_seen_backward and not self.recorder.has_points:
            self.progress.tell(0, f"not captured: {library} has loops of its own; {LOG_INSTEAD}")

    def finish(self) -> None:
        """Write everything, at the end of the code, and say so where nothing was seen."""
        self.flush(is_last=True)
        if self.recorder.has_points or self.has_seen_backward or self.rank.has_logged:
            return
        took_s = time.monotonic() - self._made_at
        names = sys.modules["__main__"].__dict__
        uses_torch = any(value is torch for value in list(names.values()))
        if self._unseen or (uses_torch and took_s > WORTH_A_WORD_S):
            why = f"{self._unseen} has loops of its own" if self._unseen else "no backward() ran"
            self.rank.notice_once(f"no loss was seen: {why}; {LOG_INSTEAD}")

    # -------------------------------------------------------------------------------- writing

    def flush_if_due(self) -> None:
        """Write what there is, when it is time."""
        if time.monotonic() >= self.due_at:
            self.flush()

    def flush(self, *, is_last: bool = False) -> None:
        """Write what there is; at the end of the code, also what is still on its way."""
        with self._lock:
            if is_last:
                self.inside = 0  # an interrupt may have come between two lines
                self.settle()
                self._tell_fingerprints()
            now = time.monotonic()
            if self.due_at == 0.0:
                self._begun_at = now
            self.due_at = now + (FIRST_EVERY_S if now - self._begun_at < FIRST_S else EVERY_S)
            self.rates.extend()
            per_step = max((site.micro_batches for site in self.sites), default=1)
            rate, how = self.batches.rate(now, self.rank.step, per_step)
            if rate:
                self.recorder.series("samples/s", how).add(self.rank.step, rate)
            self.numbers.device.move(is_last=is_last)
            self.recorder.write()
            context.record_step(self.rank)
            self.batches.look_at_input()

    def _tell_fingerprints(self) -> None:
        marks, self.batches.fingerprints = self.batches.fingerprints, []
        dist = torch.distributed
        if marks and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            self.rank.journal.record(EventKind.BATCHES, fingerprints=marks)
