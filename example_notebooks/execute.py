"""Run a notebook for real and read along in the terminal.

::

    python example_notebooks/execute.py example_notebooks/01_quickstart.ipynb

The cells run in a fresh kernel of this Python, in the notebook's own folder; what they print
appears while they run. The notebook itself stays as it is: the executed copy is a new file, and its
path is the last line. Ctrl-C interrupts the cell, as the stop button does; a second Ctrl-C ends at
once. The exit status is 0 when every cell ran, 1 when one failed, 2 when the notebook cannot be
read, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_client.manager import KernelManager
    from nbformat import NotebookNode

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class ReadAlong(NotebookClient):
    """A notebook client that prints each output as the kernel sends it.

    The kernel starts in `folder`; its sockets lie in `sockets`, a private folder with a short path.
    """

    def __init__(self, notebook: NotebookNode, folder: Path, sockets: Path, timeout_s: int) -> None:
        super().__init__(
            notebook,
            timeout=timeout_s,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            # A live view leaves a picture in the notebook; of the widget itself nothing is needed.
            store_widget_state=False,
            on_notebook_start=self._take_interrupts,
            on_cell_start=self._announce,
            on_cell_executed=self._close,
        )
        self._sockets = sockets
        self._cell_count = sum(cell.cell_type == "code" for cell in notebook.cells)
        self._cell_number = 0
        self._started = 0.0
        self._updated: dict[str, str] = {}
        self._has_live_view = False
        self._is_line_open = False
        self.is_interrupted = False

    def create_kernel_manager(self) -> KernelManager:
        """Return a manager whose kernel is reached by Unix sockets that only this user can open."""
        manager = super().create_kernel_manager()
        manager.transport = "ipc"
        manager.ip = str(self._sockets / "kernel")
        return manager

    def process_message(
        self, msg: dict[str, Any], cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """Print the message, then let the client put it into the notebook."""
        kind, content = msg["msg_type"], msg["content"]
        if kind == "stream":
            self._write(content["text"])
        elif kind in {"display_data", "execute_result"}:
            self._write_line(_text(content["data"]))
        elif kind == "update_display_data":
            # A live display may change ten times a second; its last state says enough.
            text = _text(content["data"])
            if self._has_live_view:
                # Its first line says how the job stands; the lines after it were printed already.
                text = text.partition("\n")[0]
            self._updated[content["transient"]["display_id"]] = text
        elif kind == "comm_msg":
            for line in _live_lines(content["data"]):
                self._has_live_view = True
                self._write_line(line)
        elif kind == "error":
            self._write_line("\n".join(content["traceback"]))
        return super().process_message(msg, cell, cell_index)

    def _take_interrupts(self, notebook: NotebookNode) -> None:
        """Let Ctrl-C interrupt the cell, which may have work to cancel; nbclient would kill it."""
        del notebook
        loop = asyncio.get_running_loop()
        kernel = self.km
        if kernel is None:
            return

        def interrupt() -> None:
            loop.remove_signal_handler(signal.SIGINT)
            self.is_interrupted = True
            self._interruption = asyncio.ensure_future(ensure_async(kernel.interrupt_kernel()))

        loop.add_signal_handler(signal.SIGINT, interrupt)

    def _announce(self, cell: NotebookNode, cell_index: int) -> None:
        """Print a text cell as it is, and the first line of a code cell."""
        del cell_index
        if cell.cell_type == "markdown":
            self._write_line(f"\n{cell.source.strip()}")
        elif cell.cell_type == "code":
            self._cell_number += 1
            self._started = time.monotonic()
            lines = cell.source.strip().splitlines() or ["(empty)"]
            more = " ..." if len(lines) > 1 else ""
            self._write_line(f"\n[{self._cell_number}/{self._cell_count}] {lines[0]}{more}")

    def _close(self, cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
        """Print what a live display came to, and how long the cell took."""
        del cell, cell_index, execute_reply
        for text in self._updated.values():
            self._write_line(text)
        self._updated.clear()
        self._has_live_view = False
        self._write_line(f"({time.monotonic() - self._started:.1f} s)")

    def _write_line(self, text: str) -> None:
        self._write(f"\n{text}\n" if self._is_line_open else f"{text}\n")

    def _write(self, text: str) -> None:
        if text:
            shown = text if sys.stdout.isatty() else _COLOURS.sub("", text)
            print(shown, end="", flush=True)
            self._is_line_open = not text.endswith("\n")


def _live_lines(data: dict[str, Any]) -> list[str]:
    """Return the lines of output in a message to a training view (its view.py says which)."""
    news = data.get("content")
    if data.get("method") != "custom" or not isinstance(news, dict) or news.get("type") != "news":
        return []
    has_prefix = news["head"]["ranks"] > 1
    skipped = [f"... {news['skipped']} lines more"] if news["skipped"] else []
    return skipped + [
        f"[{rank}] {text}" if has_prefix and rank is not None else text
        for rank, _, text in news["lines"]
    ]


def _text(bundle: dict[str, Any]) -> str:
    """Return the plain text of an output, or the names of what it holds instead."""
    return str(bundle.get("text/plain") or f"<{', '.join(sorted(bundle))}>")


def execute(path: Path, timeout_s: int) -> int:
    """Run the notebook at `path` and return the exit status; no cell may take over `timeout_s`."""
    try:
        notebook = nbformat.read(path, as_version=4)
    except (OSError, ValueError, nbformat.reader.NotJSONError) as error:
        print(f"error: {path} cannot be read as a notebook: {error}", file=sys.stderr)
        return 2
    folder = Path(tempfile.mkdtemp(prefix="notebook-"))
    client = ReadAlong(notebook, path.resolve().parent, folder, timeout_s)
    started = time.monotonic()
    status = 1
    try:
        client.execute()
    except CellExecutionError as error:
        # A cell may end an interrupt with an error of its own: %%aios_train does.
        is_interrupted = client.is_interrupted or error.ename == "KeyboardInterrupt"
        status = 130 if is_interrupted else 1
        verdict = "interrupted" if is_interrupted else f"a cell failed: {error.ename}"
    except CellTimeoutError:
        verdict = f"a cell took longer than {timeout_s} s (--timeout-s allows more)"
    except DeadKernelError:
        verdict = "the kernel died"
    except KeyboardInterrupt:
        status, verdict = 130, "interrupted"
    else:
        status, verdict = 0, f"every cell ran, in {time.monotonic() - started:.1f} s"
    executed = folder / path.name
    nbformat.write(notebook, executed)
    print(f"\n{path.name}: {verdict}\nThe executed copy: {executed}")
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line, run the notebook and return the exit status."""
    parser = argparse.ArgumentParser(
        description="Run a notebook for real and read along in the terminal.", allow_abbrev=False
    )
    parser.add_argument("notebook", type=Path, help="the notebook to run (it stays as it is)")
    parser.add_argument(
        "--timeout-s", type=int, default=600, help="the longest a cell may take (default: 600)"
    )
    chosen = parser.parse_args(arguments)
    return execute(chosen.notebook, chosen.timeout_s)


if __name__ == "__main__":
    sys.exit(main())
