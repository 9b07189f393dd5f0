"""Why a task is where it is, what would mend it, and what if things were different.

room, seats   what is left beside a placement, and whether a task or gang fits there
limits        the most of one kind that any schedule could place
reasons       the constraint that binds
clearing      who is in the way
fixes         changes that mend it, applied and checked
changes       a problem with something changed
naming        what is named in a question of "what if"
replacing     the placement of a changed problem from the one before
what_if       the allocation of a changed problem, in a moment
words         the sentences
"""

from jupyter_aios.allocation.explain.changes import Change, Demand, apply
from jupyter_aios.allocation.explain.explaining import Explanation, Group, explain, explain_all
from jupyter_aios.allocation.explain.fixes import Fix
from jupyter_aios.allocation.explain.limits import Bound
from jupyter_aios.allocation.explain.reasons import Reason
from jupyter_aios.allocation.explain.what_if import Differences, WhatIf, what_if

__all__ = [
    "Bound",
    "Change",
    "Demand",
    "Differences",
    "Explanation",
    "Fix",
    "Group",
    "Reason",
    "WhatIf",
    "apply",
    "explain",
    "explain_all",
    "what_if",
]
