"""The record of a run: what has to be equal for it to come out the same, and what differs now.

The seed and the options are part of the spec; here are the versions, the commit of the working
directory and the hash of the code. Nothing is imported for it, and git is asked while the code
travels.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jupyter_aios.commands import installed
from jupyter_aios.core.entities import RunRecord
from jupyter_aios.core.submission import code_hash
from jupyter_aios.widgets.text.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.core.entities import JobSpec
    from jupyter_aios.training.packing.bundle import Packed

_ALWAYS = ("jupyter-aios", "torch", "numpy")
_DISTRIBUTIONS = {
    "PIL": "pillow", "cv2": "opencv-python", "jupyter_aios": "jupyter-aios",
    "lightning_fabric": "lightning", "skimage": "scikit-image", "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}  # fmt: skip
"""Where a package is imported by another name than it is installed by."""
_IMPORT = re.compile(r"^[ \t]*(?:from[ \t]+(\w+)|import[ \t]+([\w., \t]+))", re.MULTILINE)
_GIT_S = 0.5
"""Longer than that nobody waits for git: a submission must not feel a huge or remote tree."""
_ASK_S = 20.0
_SHOWN_DIGITS = 12


def begin_record(packed: Packed, typed: str) -> RunRecord:
    """Return what can be recorded at once; `with_git` adds what git says."""
    names = [*_ALWAYS, *sorted(set(_imported(packed)) - set(_ALWAYS))]
    found = installed.installed(names)
    return RunRecord(versions=tuple(found.items()), code_hash=code_hash(packed.code), options=typed)


def _imported(packed: Packed) -> Iterable[str]:
    """Yield the distributions of what the code imports directly, as far as its text tells."""
    modules = {module.partition(".")[0] for _, module, _ in packed.code.imports}
    for file in packed.code.files:
        for single, several in _IMPORT.findall(packed.blobs[file.blob].decode()):
            parts = [single] if single else several.split(",")
            modules |= {part.strip().partition(" ")[0].partition(".")[0] for part in parts}
    for module in modules - sys.stdlib_module_names - {""}:
        yield _DISTRIBUTIONS.get(module, module)


class GitQuestion:
    """Two questions to git about a folder, asked at once and answered later; a context."""

    def __init__(self, folder: str) -> None:
        self._deadline = time.monotonic() + _GIT_S
        self._commit = _ask_git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
        # Untracked files are not looked for: that reads the whole tree, and what runs is hashed.
        options = ("--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
        self._changes = _ask_git(folder, "status", *options)

    def answer(self) -> tuple[str, bool]:
        """Return the commit (empty: none, or no answer) and whether there may be changes since."""
        commit, changes = self._read(self._commit), self._read(self._changes)
        # A status that did not come in time promises nothing.
        return (commit or b"").decode().strip(), bool(commit) and changes != b""

    def _read(self, process: subprocess.Popen[bytes] | None) -> bytes | None:
        if process is None:
            return None
        try:
            out, _ = process.communicate(timeout=max(self._deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            return None
        return out if process.returncode == 0 else None

    def __enter__(self) -> GitQuestion:  # noqa: PYI034 - Self came with 3.11
        return self

    def __exit__(self, *_: object) -> None:
        for process in filter(None, (self._commit, self._changes)):
            process.kill()
            with process:
                """Closes its pipe and waits for its end."""


def _ask_git(folder: str, *words: str) -> subprocess.Popen[bytes] | None:
    # No monitor is started and no index written: the person's own git commands notice nothing.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *words]
    try:
        return subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None  # there is no git


def with_git(spec: JobSpec, question: GitQuestion) -> JobSpec:
    """Return the spec with git's answer in its record."""
    commit, is_dirty = question.answer()
    return replace(spec, record=replace(spec.record, git_commit=commit, git_is_dirty=is_dirty))


# --------------------------------------------------------------------------------------- showing


@dataclass(frozen=True)
class RecordRow:
    """One thing that was recorded."""

    what: str
    value: str


def record_table(spec: JobSpec) -> Table[RecordRow]:
    """Return what makes the run repeatable, as screens show it."""
    record = spec.record
    changes = ", and changes that are not committed" if record.git_is_dirty else ""
    versions = ", ".join(f"{name} {version}" for name, version in record.versions)
    rows = (
        ("seed", "" if spec.seed is None else str(spec.seed)),
        ("code", record.code_hash[:_SHOWN_DIGITS]),
        ("git", record.git_commit[:_SHOWN_DIGITS] + changes),
        ("options", record.options),
        ("versions", versions),
        ("rerun of", record.rerun_of),
    )
    shown = tuple(RecordRow(what, value) for what, value in rows if value)
    return Table(shown, (("RECORD", "what"), ("VALUE", "value")), "nothing was recorded")


# ------------------------------------------------------------------------------------- comparing


def record_now(spec: JobSpec) -> RunRecord:
    """Return the record as it would be for the same spec today."""
    names = [name for name, _ in spec.record.versions if name != "python"] or list(_ALWAYS)
    with GitQuestion(spec.cwd) as question:
        versions = tuple(_versions(spec.interpreter, names).items())
        record = replace(spec.record, versions=versions)
        return with_git(replace(spec, record=record), question).record


def _versions(interpreter: str, names: list[str]) -> dict[str, str]:
    if interpreter == sys.executable:
        return installed.installed(names)
    ask = [interpreter, installed.__file__, *names]
    try:
        answer = subprocess.run(ask, capture_output=True, check=True, timeout=_ASK_S)
        found: dict[str, str] = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}  # it cannot run the job either, and says so then
    return found


def differences(then: RunRecord, now: RunRecord) -> list[str]:
    """Return what differs, a phrase each; what is not known of one of them is no difference.

    Example:
        >>> differences(RunRecord((("torch", "2.4"),)), RunRecord((("torch", "2.5"),)))
        ['torch was 2.4 and is 2.5']

    """
    told, versions = [], dict(now.versions)
    for name, version in then.versions if versions else ():
        if versions.get(name) != version:
            is_now = f"is {versions[name]}" if name in versions else "is not installed any more"
            told.append(f"{name} was {version} and {is_now}")
    if then.git_commit and now.git_commit:
        before, after = then.git_commit[:_SHOWN_DIGITS], now.git_commit[:_SHOWN_DIGITS]
        if before != after:
            told.append(f"the git commit of the folder was {before} and is {after}")
        if now.git_is_dirty and not then.git_is_dirty:
            told.append("the folder has changes now that are not committed")
        elif then.git_is_dirty and not now.git_is_dirty:
            told.append("the folder had changes then that were not committed")
    return told
