"""The README does what it says: its cells and commands run, its targets, options and links exist.

A block that cannot run here has `<!-- not executed: reason -->` right above it.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.commands import tree
from jupyter_aios.errors import AiosError
from jupyter_aios.magics.allocating import allocate_parser
from jupyter_aios.magics.training import train_parser
from tests.homes import home_at
from tests.spine.kernels import Kernels, typed_in_a_shell

if TYPE_CHECKING:
    from jupyter_aios.commands.arguments import Parser

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text()

_BLOCK = re.compile(
    r"(?:<!-- not executed: *(?P<reason>[^\n]*?) *-->\n\s*)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_MAKE = re.compile(r"^\s*make +([a-z]\S*)", re.MULTILINE)
_IMPERATIVE = re.compile(r"^(%aios|jupyter aios|make)\b")


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` is why it is not executed, None where it is."""

    language: str
    text: str
    reason: str | None

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block, without comments."""
        lines = (shlex.split(line, comments=True) for line in self.text.splitlines())
        return [shlex.join(words) for words in lines if words]


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks in their order."""
    return [Block(m["language"], m["text"], m["reason"]) for m in _BLOCK.finditer(text)]


def inline(text: str) -> list[str]:
    """Return what is typed in the running text."""
    return [code for code in _INLINE.findall(_BLOCK.sub("", text)) if _IMPERATIVE.match(code)]


def lies(text: str) -> list[str]:
    """Return what can be seen to be wrong without running anything."""
    found = [f"no reason why it is not executed: {b.text}" for b in blocks(text) if b.reason == ""]
    found += [
        f"neither executed nor marked: ```{block.language}"
        for block in blocks(text)
        if block.language not in {"", "bash", "python"} and block.reason is None
    ]
    shell = [line for b in blocks(text) if b.language == "bash" for line in b.commands]
    cells = [b.text for b in blocks(text) if b.language == "python"]
    magics = [line for cell in cells for line in cell.splitlines() if line.startswith("%")]
    typed = [*shell, *magics, *inline(text)]
    found += [fault for line in typed for fault in faults(line)]
    found += [f"there is no {link}" for link in _LINK.findall(text) if not _exists(link)]
    options = {option for verb in tree.VERBS.values() for option in verb.parser("").options()}
    options |= set(train_parser().options()) | set(allocate_parser().options())
    prose = [code for code in _INLINE.findall(_BLOCK.sub("", text)) if code.startswith("--")]
    mentioned = {option for code in prose for option in _OPTION.findall(code)}
    found += [f"no option is named {option}" for option in sorted(mentioned - options)]
    return found


def faults(line: str) -> list[str]:
    """Return what is wrong with a typed line: its target, verb or options."""
    for prefix, in_notebook in (("%aios ", True), ("jupyter aios ", False)):
        if line.startswith(prefix):
            name, *rest = shlex.split(line.removeprefix(prefix))
            verb = tree.known_verbs(in_notebook=in_notebook).get(name)
            if name == "-h":
                return []
            if verb is None:
                return [f"no verb is named {name}"]
            return _read_faults(verb.parser(prefix.strip()), rest)
    if line.startswith("%%aios_train "):
        return _read_faults(train_parser(), shlex.split(line)[1:])
    if line.startswith("%%aios_allocate "):
        return _read_faults(allocate_parser(), shlex.split(line)[1:])
    makefile = (REPOSITORY / "Makefile").read_text()
    return [
        f"make {target} does not exist"
        for target in _MAKE.findall(line)
        if not re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE)
    ]


def _read_faults(parser: Parser, words: list[str]) -> list[str]:
    own, _ = tree.split_rest(words)
    try:
        parser.read(own)
    except AiosError as error:
        return [str(error)]
    return []


def _exists(link: str) -> bool:
    return (REPOSITORY / link).exists()


def test_everything_that_is_named_exists() -> None:
    assert lies(README) == []


@pytest.mark.parametrize(
    ("text", "lie"),
    [
        ("```bash\nmake nothing # at all\n```", "make nothing does not exist"),
        ("```bash\njupyter aios statsu\n```", "no verb is named statsu"),
        ("type `%aios logs first --rnak 1`", "no option of %aios logs is named '--rnak'"),
        ("```python\n%%aios_train --nods 2\nx\n```", "no option of %%aios_train is named '--nods'"),
        ("with `--nodez 4`", "no option is named --nodez"),
        ("[how](docs/nowhere.md)", "there is no docs/nowhere.md"),
        ("<!-- not executed: -->\n```bash\nx\n```", "no reason why it is not executed"),
        ("```yaml\nx: 1\n```", "neither executed nor marked: ```yaml"),
    ],
)
def test_a_lie_is_found(text: str, lie: str) -> None:
    (found,) = lies(text)
    assert found.startswith(lie)


def test_what_is_executed_is_not_nothing() -> None:
    executed = [block for block in blocks(README) if block.reason is None]
    commands = [line for b in executed if b.language == "bash" for line in b.commands]
    assert [line for line in commands if line.startswith("jupyter aios ")]
    assert [b for b in executed if b.language == "python" and "%%aios_train" in b.text]
    assert README.count("```") == 2 * len(blocks(README))


def test_cells_and_commands_run_in_their_order(tmp_path: Path) -> None:
    kernels = Kernels(tmp_path)
    with home_at(tmp_path / "home"), contextlib.closing(kernels):
        kernel = kernels.start()
        for block in blocks(README):
            if block.reason is not None:
                continue
            if block.language == "python":
                cell = kernel.run(block.text)
                assert not cell.error, f"{block.text}\n{cell.error}"
                assert not cell.stderr, f"{block.text}\n{cell.stderr}"
                is_magic = re.search("^%+aios", block.text, re.MULTILINE)
                is_shown = cell.result or cell.stdout
                assert is_shown or not is_magic, f"{block.text}shows nothing"
            elif block.language == "bash":
                for line in block.commands:
                    # In a checkout of its own, make would install and test everything.
                    assert line.startswith("jupyter aios "), f"mark as not executed: {line}"
                    typed = typed_in_a_shell(line, tmp_path)
                    out, error = typed.communicate(timeout=100)
                    assert typed.returncode == 0, f"{line}\n{out}{error}"
        for line in inline(README):
            if line.startswith("%aios"):
                cell = kernel.run(line)
                assert not cell.error + cell.stderr, f"{line}\n{cell.error}{cell.stderr}"
                assert cell.result, f"{line} shows nothing"
