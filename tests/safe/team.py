"""A teacher who serves a controller over TLS, and a student elsewhere who has logged in to it."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_aios.client import Client
from tests.homes import home_at
from tests.safe.terminal import Terminal, typed

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSPHRASE = "correct horse battery staple"
NEW = "new passphrase of the vault"
LOGIN = re.compile(r"%aios login (https://127\.0\.0\.1:(\d+)) --fingerprint (sha256:[0-9a-f]{64})")


@dataclass
class Team:
    """Both homes, and the terminal where the teacher serves."""

    home: Path
    student_home: Path
    serving: Terminal
    url: str = ""
    fingerprint: str = ""

    @property
    def runs(self) -> str:
        """Who runs the controller."""
        return self.client.hello().asker

    @property
    def client(self) -> Client:
        """A client of the teacher's, over the Unix socket."""
        return Client(self.home)

    @property
    def student(self) -> Client:
        """A client of the student's, over TLS."""
        return Client(self.student_home)

    def teacher(self, line: str, *answers: tuple[str, str], code: int = 0) -> str:
        """Type a line as the teacher; return what is shown."""
        return typed(f"jupyter aios {line}", *answers, code=code, AIOS_HOME=str(self.home))

    def eve(self, line: str, *answers: tuple[str, str], code: int = 0) -> str:
        """Type a line as the student; return what is shown."""
        return typed(f"jupyter aios {line}", *answers, code=code, AIOS_HOME=str(self.student_home))

    def log_in(self, user: str, file: Path, **options: str) -> None:
        """Have the teacher issue a token, and the student log in by it."""
        told = " ".join(f"--{name} {value}" for name, value in options.items())
        self.teacher(f"token issue {user} --to {file} {told}")
        said = self.eve(f"login {self.url} --fingerprint {self.fingerprint} --file {file}")
        assert said.startswith(f"you are {user} (student) at {self.url}"), said


def serve(home: Path, *answers: tuple[str, str], port: int = 0) -> contextlib.closing[Terminal]:
    """Begin to serve at a terminal of its own; what it asks is answered.

    The controller has no more power than an ordinary user, also where root runs the tests: else
    its jobs could look into everything.
    """
    line = f"jupyter aios serve --tls --host 127.0.0.1 --port {port}"
    if os.geteuid() == 0:
        line = f"setpriv --bounding-set -all --inh-caps -all {line}"
    opened = Terminal(line, {"AIOS_HOME": str(home)})
    try:
        for question, answer in answers:
            opened.answer(question, answer)
        opened.until("Ctrl-C ends it.")
    except BaseException:
        opened.close()
        raise
    return contextlib.closing(opened)


@contextlib.contextmanager
def team_at(folder: Path) -> Iterator[Team]:
    """Have the teacher begin to serve, which makes the vault, and let eve be a student."""
    folder.mkdir(exist_ok=True)
    asked = [(NEW, PASSPHRASE), (f"{NEW}, again", PASSPHRASE)]
    with home_at(folder / "home") as home, serve(home, *asked) as serving:
        found = LOGIN.search(serving.said)
        assert found, serving.said
        team = Team(home, folder / "eve", serving, found[1], found[3])
        team.teacher("grant eve --role student --group students")
        team.log_in("eve", folder / "eve.token")
        yield team
