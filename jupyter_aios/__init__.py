"""An operating system for AI work, inside the notebook.

In a notebook: `%load_ext jupyter_aios`, then `%aios`, `%%aios_train --nodes 4`, `%%aios_allocate`.
In Python:

    import jupyter_aios as aios
    job = aios.submit("train.py", nodes=2)
    answer = aios.allocate({"r": [3, 5, 2], "c": [6, 5]})
    aios.safe()  # secrets, rights and denials, never values

In a rank: `aios.log(loss=loss)`, `aios.checkpoint(step, model=model)`, `aios.restore(model=model)`,
`aios.device()`, `aios.secret("HF_TOKEN")`, `aios.fetch("models/x.bin", secret="HUB")`.

Every name below loads what it needs when it is first used: importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from jupyter_aios.core.version import __version__

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_aios.commands.allocating import allocate
    from jupyter_aios.commands.api import job, jobs, submit
    from jupyter_aios.commands.handle import JobHandle as Job
    from jupyter_aios.commands.showing import safe
    from jupyter_aios.errors import AiosError
    from jupyter_aios.training.context import checkpoint, device, log, restore
    from jupyter_aios.training.fetching import fetch
    from jupyter_aios.training.secrets import secret

__all__ = [
    "AiosError",
    "Job",
    "__version__",
    "allocate",
    "checkpoint",
    "device",
    "fetch",
    "job",
    "jobs",
    "load_ipython_extension",
    "log",
    "restore",
    "safe",
    "secret",
    "submit",
]

_PLACES = {
    "AiosError": ("jupyter_aios.errors", "AiosError"),
    "Job": ("jupyter_aios.commands.handle", "JobHandle"),
    "allocate": ("jupyter_aios.commands.allocating", "allocate"),
    "submit": ("jupyter_aios.commands.api", "submit"),
    "job": ("jupyter_aios.commands.api", "job"),
    "jobs": ("jupyter_aios.commands.api", "jobs"),
    "safe": ("jupyter_aios.commands.showing", "safe"),
    "log": ("jupyter_aios.training.context", "log"),
    "checkpoint": ("jupyter_aios.training.context", "checkpoint"),
    "restore": ("jupyter_aios.training.context", "restore"),
    "device": ("jupyter_aios.training.context", "device"),
    "fetch": ("jupyter_aios.training.fetching", "fetch"),
    "secret": ("jupyter_aios.training.secrets", "secret"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the public names are of many kinds
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Add the magics to IPython; `%load_ext jupyter_aios` calls this."""
    # By name, as everything here: this package is below all others, and above them too.
    importlib.import_module("jupyter_aios.magics").register(shell)
