"""(queue, nodes, what is held) → decisions, as pure functions.

queue   strict order by priority, then arrival; a reason for everybody who waits
room    what is free, and the gang that is placed into it; the check before a launch
"""

from __future__ import annotations

from jupyter_aios.scheduling.queue import Decisions, Placing, decide, refuse_impossible

__all__ = ["Decisions", "Placing", "decide", "refuse_impossible"]
