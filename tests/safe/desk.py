"""Verbs typed beside a real controller in this process: fast, and with somebody who types."""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.commands import tree
from jupyter_aios.commands.place import Place
from tests.controller.rig import Rig

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Keyboard:
    """Types the answers one after the other; who asks for more than there are has no keyboard."""

    answers: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def getpass(self, prompt: str = "") -> str:
        """Stand in for `getpass.getpass`."""
        self.asked.append(prompt.removesuffix(": "))
        if not self.answers:
            raise EOFError
        return self.answers.pop(0)


@dataclass
class Desk:
    """A controller, the place where verbs are typed, and the keyboard."""

    rig: Rig
    place: Place
    keyboard: Keyboard

    def type(self, line: str, *answers: str) -> str:
        """Type a line and what it asks for; return what is shown."""
        self.keyboard.answers[:] = answers
        self.keyboard.asked.clear()
        shown = repr(tree.run(shlex.split(line), self.place))
        assert not self.keyboard.answers, f"not asked for: {self.keyboard.answers}"
        return shown


@contextlib.contextmanager
def desk_at(folder: Path) -> Iterator[Desk]:
    """Give a desk whose home is below the folder, and whose machine has no keyring."""
    rig, keyboard = Rig(folder / "home"), Keyboard()
    with pytest.MonkeyPatch.context() as patch, rig.serving():
        patch.setenv("AIOS_HOME", str(rig.home))
        patch.setattr(getpass, "getpass", keyboard.getpass)
        # Never the keyring of whoever runs the tests.
        patch.setattr("jupyter_aios.controller.keeper.keyring_is_usable", lambda: False)
        try:
            yield Desk(rig, Place(prefix="aios"), keyboard)
        finally:
            rig.controller.close()


def runs() -> str:
    """Return the name of whoever runs the tests, and so their controllers."""
    from jupyter_aios.controller.access import user_name

    return user_name(os.getuid())
