"""A real JupyterLab, and notebooks in Chromium that are typed into as a person does."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from playwright.sync_api import Browser, Page, expect, sync_playwright

from jupyter_aios.client import Client
from tests.launching import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Locator

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]
_DEADLINE_MS = 30_000
THEMES = {
    "light": "JupyterLab Light",
    "dark": "JupyterLab Dark",
    "contrast": "JupyterLab Dark High Contrast",
}
# The indicator beside the kernel's name says idle before the kernel is connected.
_IDLE = """() => {
  const context = window.jupyterapp?.shell.currentWidget?.sessionContext;
  const kernel = context?.session?.kernel;
  return !!(context?.isReady && kernel?.connectionStatus === 'connected'
    && kernel.status === 'idle');
}"""
# What JupyterLab itself complains about, whatever is in the notebook.
_NOISE = re.compile(r"favicon|/api/me\b|lsp/status|api/workspaces|ResizeObserver loop")


class Lab:
    """A JupyterLab server whose files, settings and kernels are nobody else's."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = Path(tempfile.mkdtemp(prefix="lab-"))
        self.notebooks = self.folder / "notebooks"
        self.notebooks.mkdir()
        self.token = secrets.token_hex(16)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        # A toast with news lies over what is to be clicked.
        self._setting("notification", {"fetchNews": "false", "checkForUpdates": False})
        self.log = (self.folder / "lab.log").open("w")
        self.process = subprocess.Popen(
            self._command(),
            env={**os.environ, **self._environment()},
            stdout=self.log,
            stderr=subprocess.STDOUT,
        )
        eventually(self._answers, "JupyterLab answers")

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ip=127.0.0.1", f"--port={self.port}", "--ServerApp.port_retries=0"),
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.notebooks}",
            "--LabApp.news_url=",
            "--LabApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        ]

    def _environment(self) -> dict[str, str]:
        folders = {
            "JUPYTER_CONFIG_DIR": "config",
            "JUPYTER_DATA_DIR": "data",
            "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
            "IPYTHONDIR": "ipython",
        }
        own = {variable: str(self.folder / name) for variable, name in folders.items()}
        # A cell finds `jupyter` and `python` where an activated environment has them.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**own, "PATH": path, "AIOS_HOME": str(self.home)}

    def _setting(self, plugin: str, value: dict[str, Any]) -> None:
        folder = self.folder / "settings" / "@jupyterlab" / "apputils-extension"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{plugin}.jupyterlab-settings").write_text(json.dumps(value))

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "lab.log").read_text()
        with contextlib.suppress(OSError):
            return bool(self.ask("/api/status"))
        return False

    def ask(self, path: str) -> Any:
        """Return what the server answers to GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": f"token {self.token}"})
            reply = connection.getresponse()
            body = reply.read()
            return json.loads(body) if reply.status == http.client.OK else None

    def theme(self, name: str) -> None:
        """Let pages that are opened from now on be `light`, `dark` or of high `contrast`."""
        self._setting("themes", {"theme": THEMES[name], "adaptive-theme": False})

    def url(self, notebook: str) -> str:
        """Return where a notebook is opened, in a workspace of its own, with nothing beside it."""
        path = f"/lab/workspaces/{secrets.token_hex(4)}/tree/{notebook}"
        return f"http://127.0.0.1:{self.port}{path}?token={self.token}&reset"

    def write(self, notebook: str, *cells: str) -> Path:
        """Write a notebook with these code cells."""
        path = self.notebooks / notebook
        metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        sheet = new_notebook(cells=[new_code_cell(cell) for cell in cells], metadata=metadata)
        nbformat.write(sheet, path)
        return path

    def close(self) -> None:
        """End the server with its kernels, and remove its files."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Sheet:
    """A notebook that is open in a page of its own."""

    page: Page
    lab: Lab
    name: str
    errors: list[str] = field(default_factory=list)
    """What the page complained about."""

    def cell(self, number: int) -> Locator:
        """Return a cell by its place."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def output(self, number: int) -> Locator:
        """Return what a cell shows."""
        return self.cell(number).locator(".jp-Cell-outputWrapper")

    def run(self, number: int) -> None:
        """Type Shift+Enter in a cell."""
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def keys(self, *keys: str) -> None:
        """Type in the notebook's command mode."""
        self.cell(0).locator(".jp-InputPrompt").click()
        for key in keys:
            self.page.keyboard.press(key)

    def idle(self) -> None:
        """Wait until the kernel is idle."""
        self.page.wait_for_function(_IDLE)

    def is_idle(self) -> bool:
        """True while the kernel is idle."""
        return bool(self.page.evaluate(_IDLE))

    def done(self, number: int) -> Locator:
        """Wait until a cell has run, and return what it shows."""
        prompt = self.cell(number).locator(".jp-InputPrompt").first
        expect(prompt).to_have_text(re.compile(r"\[\d+\]:"), timeout=_DEADLINE_MS)
        return self.output(number)

    def finish(self, number: int) -> Locator:
        """Run a cell to its end and return what it shows."""
        self.run(number)
        return self.done(number)

    def restart(self) -> None:
        """Restart the kernel, and wait until it is up again."""
        kernel = self.page.locator(".jp-Notebook-ExecutionIndicator")
        self.keys("0", "0")
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        kernel.wait_for()
        self.idle()

    def end_kernel(self) -> None:
        """End the kernel; the next page that opens the notebook gets a new one."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")

    def save(self) -> None:
        """Save the notebook, and wait until it is on the disk."""
        path = self.lab.notebooks / self.name
        before = path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        eventually(lambda: path.stat().st_mtime_ns > before, f"{self.name} is saved")

    def reload(self) -> None:
        """Reload the page, as F5 does."""
        self.page.reload()
        self.ready()

    def ready(self) -> None:
        """Wait until the notebook can be typed into."""
        self.page.locator(".jp-NotebookPanel .jp-CodeCell .cm-content").first.wait_for()
        self.page.locator("#main:not(.jp-mod-loading) .jp-Notebook-ExecutionIndicator").wait_for()

    def painted(self) -> None:
        """Wait until the page has drawn what came into sight."""
        frame = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.page.evaluate(f"async () => {{ for (let i = 0; i < 3; i++) await {frame}; }}")

    def wear(self, theme: str) -> None:
        """Change the page's theme while it is open, as the Settings menu does."""
        self.page.evaluate(
            "(theme) => window.jupyterapp.commands.execute('apputils:change-theme', { theme })",
            THEMES[theme],
        )
        worn = self.page.locator(f"body[data-jp-theme-name='{THEMES[theme]}']")
        worn.wait_for(state="attached")
        self.painted()

    def shot(self, name: str) -> None:
        """Take a picture into AIOS_SCREENSHOTS, where it is asked for; the last view is on it."""
        if folder := os.environ.get("AIOS_SCREENSHOTS"):
            if (views := self.page.locator(".jp-Notebook .aios")).count():
                views.last.scroll_into_view_if_needed()
                self.painted()
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png")

    def complaints(self) -> list[str]:
        """Return the errors of the page's console that are not JupyterLab's own."""
        return [error for error in self.errors if not _NOISE.search(error)]


@dataclass
class Desk:
    """A browser in front of a JupyterLab."""

    browser: Browser
    lab: Lab
    sheets: list[Sheet] = field(default_factory=list)

    @property
    def client(self) -> Client:
        """A client of the home that the notebooks use."""
        return Client(self.lab.home)

    def open(self, notebook: str, *, theme: str = "light", width: int = 1400) -> Sheet:
        """Open a notebook in a browser that shares nothing with those before."""
        self.lab.theme(theme)
        context = self.browser.new_context(viewport={"width": width, "height": 900})
        context.set_default_timeout(_DEADLINE_MS)
        page = context.new_page()
        sheet = Sheet(page, self.lab, notebook)
        self.sheets.append(sheet)
        page.on("pageerror", lambda error: sheet.errors.append(f"{error} {error.stack or ''}"))
        page.on(
            "console",
            lambda message: (
                sheet.errors.append(f"{message.text} {message.location.get('url', '')}")
                if message.type == "error"
                else None
            ),
        )
        page.goto(self.lab.url(notebook))
        sheet.ready()
        return sheet

    def sheet(self, notebook: str, *cells: str, theme: str = "light", width: int = 1400) -> Sheet:
        """Write a notebook and open it with its kernel up."""
        self.lab.write(notebook, *cells)
        sheet = self.open(notebook, theme=theme, width=width)
        sheet.idle()
        return sheet

    def clear(self) -> None:
        """Close every page, with a last picture of it, and end what still runs."""
        while self.sheets:
            sheet = self.sheets.pop()
            sheet.shot(f"{Path(sheet.name).stem}-end-{len(self.sheets)}")
            sheet.page.context.close()
        for job in self.client.jobs():
            if not job.state.is_terminal:
                self.client.cancel(job.id)


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Give a Chromium for the duration; it shares no state with any other."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()
