"""`%aios VERB`, `%%aios_train`, `%%aios_allocate`: parse, call, return what draws itself.

`%load_ext jupyter_aios` imports only this file; the rest is loaded when it is first used.
"""

from __future__ import annotations

import inspect
import shlex
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class

if TYPE_CHECKING:
    from types import FrameType

    from IPython.core.completer import CompletionContext
    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_aios.commands.place import Place

_HELP = frozenset({"-h", "--help"})
_MATCHER = "jupyter_aios"
_CELL_MAGICS = frozenset({"%%aios_train", "%%aios_allocate"})


@magics_class
class AiosMagics(Magics):
    """The magics of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._place: Place | None = None

    @property
    def place(self) -> Place:
        """Where the verbs are typed: this notebook."""
        if self._place is None:
            from jupyter_aios.commands.place import Place

            self._place = Place(namespace=getattr(self.shell, "user_ns", {}))
        return self._place

    @line_magic
    def aios(self, line: str) -> object:
        """Look at and steer training jobs: `%aios VERB`; `%aios` says where one is.

        Verbs: status, jobs, nodes, attach, logs, cancel, pull, push, interrupt, rerun, prune,
        restart, doctor, allocate, unlock, lock, passwd, vault, secret, login, logout, grant, token,
        audit.
        `%aios -h` lists them, `%aios VERB -h` explains one.
        """
        from jupyter_aios.commands import tree

        return tree.run(split(line), self.place)

    @line_cell_magic
    def aios_train(self, line: str, cell: str | None = None) -> object:
        """Run the cell on many ranks: `%%aios_train --nodes 4 --name mnist --pull model`.

        What the cell reads of the notebook travels along. `%%aios_train -h` lists the options.
        """
        from jupyter_aios.magics.training import train

        return train(split(line), cell or "", self.place, running_cell(self.shell))

    @line_cell_magic
    def aios_allocate(self, line: str, cell: str | None = None) -> object:
        """Place tasks on nodes: `nodes:` and `tasks:` in the cell, or the textbook's `r:`, `c:`.

        Without a cell: `%aios_allocate --nodes machines --tasks jobs` takes DataFrames, `--live`
        what waits on this cluster. `%%aios_allocate -h` lists the options.
        """
        from jupyter_aios.magics.allocating import allocate

        return allocate(split(line), cell or "", self.place)

    def complete(self, context: CompletionContext) -> dict[str, Any]:
        """Return what may stand at the cursor, where the line is one of ours."""
        line = context.line_with_cursor[: context.cursor_position].lstrip()
        if not line.startswith(("%aios", "%%aios", "aios ")):
            return {"completions": [], "suppress": False}
        from jupyter_aios.magics.completion import completions

        return completions(line, context.token, self.place)


def running_cell(shell: Any) -> str:  # noqa: ANN401 - IPython's shell
    """Return what tracebacks call the cell that runs: `Cell In[3]`.

    The shell's counter is not it: newer versions of IPython have moved on by now.
    """
    numbers = getattr(shell.compile, "_filename_map", {})
    frame: FrameType | None = inspect.currentframe()
    while frame is not None and frame.f_code.co_filename not in numbers:
        frame = frame.f_back
    count = numbers[frame.f_code.co_filename] if frame else shell.execution_count
    return f"Cell In[{count}]"


def split(line: str) -> list[str]:
    """Return the words of a line as a shell splits them.

    Raises:
        UsageError: a quote is not closed.

    """
    try:
        return shlex.split(line)
    except ValueError as error:
        hint = "close the quote, or put a backslash before it"
        raise UsageError(f"{error}: {line}\nhint: {hint}") from None


def help_without_body(lines: list[str]) -> list[str]:
    """Let `%%aios_train -h` stand alone: IPython refuses a cell magic without a body."""
    words = "".join(lines).split()
    is_help = (
        bool(words) and words[0] in _CELL_MAGICS and len(words) > 1 and set(words[1:]) <= _HELP
    )
    return [lines[0].replace("%%", "%", 1)] if is_help else lines


def register(shell: InteractiveShell) -> None:
    """Add the magics and their completion to a shell. Harmless the second time."""
    from IPython.core.completer import context_matcher

    magics: Any = AiosMagics(shell)
    shell.register_magics(magics)
    if help_without_body not in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.append(help_without_body)
    others = shell.Completer.custom_matchers
    others[:] = [one for one in others if getattr(one, "matcher_identifier", "") != _MATCHER]

    @context_matcher(identifier=_MATCHER)  # type: ignore[untyped-decorator]
    def match(context: CompletionContext) -> dict[str, Any]:
        return magics.complete(context)  # type: ignore[no-any-return]

    others.append(match)
