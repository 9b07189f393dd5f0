"""Where the next task goes: a policy's scores, kept per kind of task while nodes stay the same."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from jupyter_aios.allocation.problem import CPU, NO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.allocation.greedy.policies import Floats, Policy
    from jupyter_aios.allocation.greedy.state import State
    from jupyter_aios.allocation.problem import Bools, Ints

_MOST_SCORES = 40_000_000
"""Scores that are kept at most, in numbers: 320 MB."""
_MOST_CHANGES = 1_000_000
"""Changes of nodes that are logged before everything is scored anew."""
_MOST_SCORED = 1_500
"""Nodes that a costly policy scores for a kind of task that comes only once."""
_MOST_DOMAINS = 8
"""Domains that are tried for a gang that is to be together."""

Kind = tuple[int, int, int, int, int, int]


class Choice:
    """Places units (a task, or a gang as a whole) into a state by a policy."""

    def __init__(self, state: State, policy: Policy) -> None:
        self.state = state
        self.policy = policy
        self._kept: dict[Kind, tuple[Floats, int]] = {}
        self._expected: Counter[Kind] = Counter()

    def expect(self, tasks: Iterable[int]) -> None:
        """Say which tasks will come: scores are kept for kinds of which more than one will."""
        self._expected.update(self.kind_of(task) for task in tasks)

    def place(self, unit: Sequence[int]) -> bool:
        """Place all tasks of a unit, or leave everything as it was and return False."""
        if len(unit) == 1:
            return self._place_one(unit[0])
        refused: list[int] = []
        group = self.state.together[unit[0]]
        for _ in range(_MOST_DOMAINS):
            domain = self._place_all(unit, refused)
            if domain is None:
                return True
            # The gang went into a domain that is too small for it; another may not be.
            if NO in {group, domain} or domain in refused:
                return False
            refused.append(domain)
        return False

    def _place_all(self, unit: Sequence[int], refused: list[int]) -> int | None:
        """Return None when all are placed, else the domain of the first one; all are back then."""
        state = self.state
        done: list[int] = []
        group = state.together[unit[0]]
        is_free = group != NO and state.domain_of(group) == NO
        for task in unit:
            if not self._place_one(task, refused if is_free and not done else ()):
                break
            done.append(task)
        else:
            return None
        domain = state.domain_of(group) if is_free and done else NO
        for task in done:
            state.give_back(task)
        return domain

    def _place_one(self, task: int, refused: Sequence[int] = ()) -> bool:
        state = self.state
        if not state.has_quota(task):
            return False
        current = state.current[task]
        if current != NO:
            tasks = state.problem.tasks
            bits = int(tasks.current_devices[task])
            if state.may_be(task, current, bits) and not refused:
                state.take(task, current, bits)
                return True
            if not tasks.is_movable[task]:
                return False
        node = self.best(task, refused)
        if node == NO:
            return False
        state.take(task, node, self.policy.deal(state, task, node))
        return True

    # ------------------------------------------------------------------------ scores

    def best(self, task: int, refused: Sequence[int] = ()) -> int:
        """Return the node with the best score, the first of equals; -1 where none has room."""
        allowed = self.state.allowed(task)
        if refused and allowed is not None:
            allowed &= ~np.isin(self.state.domains_of(self.state.together[task]), refused)
        kind = self.kind_of(task)
        if self.policy.is_steady and self._expected[kind] > 1:
            scores = self._scores(task, kind)
            if allowed is not None:
                scores = np.where(allowed, scores, -np.inf)
            node = int(scores.argmax()) if len(scores) else NO
            return node if node != NO and scores[node] > -np.inf else NO
        return self._best_now(task, allowed)

    def _best_now(self, task: int, allowed: Bools | None) -> int:
        fits = self.state.fits(task)
        if allowed is not None:
            fits &= allowed
        nodes = np.flatnonzero(fits)
        if not len(nodes):
            return NO
        if self.policy.is_costly and len(nodes) > _MOST_SCORED:
            nodes = nodes[self._tightest(nodes)]
        return int(nodes[self.policy.score(self.state, task, nodes).argmax()])

    def _tightest(self, nodes: Ints) -> Ints:
        """Return which of the nodes have the least CPU and GPU left, as indexes in their order."""
        state = self.state
        left = state.free[CPU][nodes] / max(float(state.free[CPU].max()), 1.0)
        left += state.gpu_free[nodes] / max(float(state.gpu_free.max()), 1.0)
        return np.sort(np.argpartition(left, _MOST_SCORED)[:_MOST_SCORED])

    def _scores(self, task: int, kind: Kind) -> Floats:
        """Return the kind's score of every node, -inf where there is no room."""
        state = self.state
        now = len(state.changed)
        if now > _MOST_CHANGES:
            state.changed.clear()
            self._kept.clear()
            now = 0
        kept = self._kept.get(kind)
        if kept is None:
            scores = np.full(len(state.problem.nodes), -np.inf)
            nodes = np.flatnonzero(state.fits(task))
            scores[nodes] = self.policy.score(state, task, nodes)
            if (len(self._kept) + 1) * len(scores) > _MOST_SCORES:
                del self._kept[next(iter(self._kept))]
        else:
            scores, then = kept
            if then == now:
                return scores
            since = set(state.changed[then:])
            nodes = np.fromiter(since, np.int64, len(since))
            scores[nodes] = -np.inf
            nodes = nodes[state.fits_on(task, nodes)]
            if len(nodes):
                scores[nodes] = self.policy.score(state, task, nodes)
        self._kept[kind] = (scores, now)
        return scores

    def kind_of(self, task: int) -> Kind:
        """Return what a task asks of a node, as far as scores go."""
        state = self.state
        cpu, memory, disk = state.demand[task]
        return (cpu, memory, disk, state.gpus[task], state.milli[task], state.zone[task])
