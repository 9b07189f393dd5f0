"""The second process of a search, which `companion` starts; not for people."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from jupyter_aios.allocation.assignment.companion import Line
from jupyter_aios.allocation.assignment.problem import Instance
from jupyter_aios.allocation.assignment.solve import accompany


def main() -> None:
    """Search until killed, until the time is over, or until the parent is gone."""
    said: dict[str, Any] = json.loads(sys.stdin.readline())
    tables = (said[key] for key in ("costs", "demands", "capacities"))
    instance = Instance(*(np.array(table, np.int64) for table in tables))
    accompany(instance, Line(sys.stdin, sys.stdout), time_s=said["time_s"], seed=said["seed"])


if __name__ == "__main__":
    main()
