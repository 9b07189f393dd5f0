"""`jupyter aios serve --tls` as people run it: in a terminal, for days, ended by Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from jupyter_aios.core.policy import Role
from jupyter_aios.core.rights import AuditQuery
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import AiosError, DeniedError, UnavailableError
from tests.launching import eventually
from tests.safe.team import LOGIN, PASSPHRASE, Team, team_at
from tests.safe.terminal import terminal
from tests.safe.test_leaks import printed
from tests.spine.kernels import over

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.xdist_group("team"), pytest.mark.usefixtures("no_keyring")]

WAITS = """\
import pathlib, sys, time
print("ready", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.02)
print("goes on")
"""


@pytest.fixture
def team(tmp_path: Path, no_keyring: None) -> Iterator[Team]:  # noqa: ARG001
    """Give a teacher who serves, and a student."""
    with team_at(tmp_path / "team") as team:
        yield team


@pytest.fixture(scope="module")
def shared_team(no_keyring: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:  # noqa: ARG001
    """Give a teacher who serves all along, and a student."""
    with team_at(tmp_path_factory.mktemp("team")) as team:
        yield team


def beside(team: Team, home: Path) -> Team:
    """Return the same teacher with a student who has another home."""
    return replace(team, student_home=home)


def start_waiting(team: Team, folder: Path, name: str) -> Path:
    """Have the student start a job that waits; return the file that lets it go on."""
    script, go = folder / f"{name}.py", folder / f"{name}.go"
    script.write_text(WAITS)
    team.eve(f"submit {script} --name {name} --detach -- {go}")
    eventually(lambda: "ready" in printed(team.student, name), f"{name} waits")
    return go


def refusal(act: Callable[[], object]) -> AiosError | None:
    """Return what an act is refused with, if it is."""
    try:
        act()
    except AiosError as error:
        return error
    return None


# ----------------------------------------------------------------------------------- its life


def test_ctrl_c_ends_the_serving_and_leaves_jobs_running(team: Team, tmp_path: Path) -> None:
    assert LOGIN.search(team.serving.said)
    assert "and a token: jupyter aios token issue USER --to FILE. Ctrl-C ends it." in (
        team.serving.said
    )
    assert "warning" not in team.serving.said
    assert PASSPHRASE not in team.serving.said
    go = start_waiting(team, tmp_path, "stays")
    job = team.student.job("stays")
    team.serving.interrupt()
    code, said = team.serving.end()
    last = said.splitlines()[-1].removeprefix("^C")
    assert (code, last) == (0, "nobody else is served any more; jobs go on")
    assert isinstance(refusal(team.student.hello), UnavailableError)
    assert team.client.job(job.id).state is JobState.RUNNING
    go.touch()
    assert over(team.client, job.id).state is JobState.SUCCEEDED


def test_after_the_controller_was_killed_it_is_served_again_as_soon_as_it_is_unlocked(
    team: Team, tmp_path: Path
) -> None:
    go = start_waiting(team, tmp_path, "survives")
    killed = team.client.hello().pid
    os.kill(killed, signal.SIGKILL)
    team.serving.until("not served now: the vault is locked; %aios unlock")
    with terminal("jupyter aios unlock", AIOS_HOME=str(team.home)) as opening:
        opening.answer("passphrase of the vault", PASSPHRASE)
        assert opening.end()[0] == 0
    team.serving.until("the controller was replaced; serving again")
    # The same address, certificate and token: the student notices nothing.
    hello = team.student.hello()
    assert (hello.asker, hello.role) == ("eve", Role.STUDENT)
    assert hello.pid != killed
    go.touch()
    assert over(team.student, "survives").state is JobState.SUCCEEDED
    front = team.client.safe.front()
    assert (front.url, front.fingerprint) == (team.url, team.fingerprint)


# --------------------------------------------------------------------------------- who may come


def test_a_token_that_has_ended_is_refused_and_the_error_says_what_to_type(
    shared_team: Team, tmp_path: Path
) -> None:
    team = beside(shared_team, tmp_path / "late")
    team.log_in("eve", tmp_path / "short.token", valid="3s")
    eventually(lambda: refusal(team.student.hello) is not None, "the token ends")
    error, hint = team.eve("secret list", code=1).splitlines()
    assert re.fullmatch(r"DeniedError: the token [0-9a-f]{8} expired \S+ s ago", error)
    assert hint == "hint: %aios login URL"


def test_a_token_that_is_revoked_is_refused_from_the_next_request_on(
    shared_team: Team, tmp_path: Path
) -> None:
    team = beside(shared_team, tmp_path / "lost")
    team.log_in("eve", tmp_path / "lost.token", note="lost")
    assert team.student.hello().asker == "eve"
    row = next(row for row in team.client.safe.tokens() if row.note == "lost")
    assert team.teacher(f"token revoke {row.id}") == f"token {row.id} is not accepted any more"
    assert isinstance(refusal(team.student.hello), DeniedError)
    # The student's other token is none of its business.
    assert shared_team.student.hello().asker == "eve"


def test_a_role_that_is_taken_away_counts_at_once_and_says_whom_to_ask(
    shared_team: Team, tmp_path: Path
) -> None:
    team = beside(shared_team, tmp_path / "max")
    team.teacher("grant max --role student")
    team.log_in("max", tmp_path / "max.token")
    assert team.eve("secret list") == "no secrets yet; %aios secret set NAME"
    team.teacher("grant max --role guest")
    error, hint = team.eve("secret list", code=1).splitlines()
    assert error.startswith("DeniedError: ")
    assert "guest" in error
    assert hint.startswith("hint: ask ")
    denied = team.client.safe.audit(AuditQuery(user="max", only_denied=True)).rows
    assert {row.reason for row in denied} == {error.removeprefix("DeniedError: ")}
