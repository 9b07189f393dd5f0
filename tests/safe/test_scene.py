"""A teacher's SSH key serves a student's job, which looks for it everywhere and finds nothing.

Everything is real: the controller with its typed passphrase, TLS, tokens, permits, ranks, sshd.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key

from jupyter_aios.core.rights import AuditQuery
from jupyter_aios.core.safe import SecretPut, wrapped
from jupyter_aios.core.secrets import Secret
from jupyter_aios.core.states import JobState
from jupyter_aios.errors import DeniedError, UnknownNameError
from tests.controller.sshd import SSHD, Sshd, sshd_at
from tests.launching import eventually
from tests.safe.needles import Needles, files_below
from tests.safe.planting import controls
from tests.safe.team import PASSPHRASE, Team, team_at
from tests.safe.test_leaks import printed
from tests.spine.kernels import over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from jupyter_aios.core.audit import AuditRow

# One worker: the file's tests look at one scene.
pytestmark = [
    pytest.mark.xdist_group("scene"),
    pytest.mark.skipif(SSHD is None, reason="needs an sshd"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into memory by /proc"),
]

KEY_PHRASE = "the key's own passphrase"
LOOKING = Path(__file__).parent / "looking.py"
LOG_IN_AS_SSH_DOES = ("-o", "IdentityAgent=SSH_AUTH_SOCK")


def made_key(folder: Path) -> tuple[Path, bytes]:
    """Return the file of a new encrypted key, and the key's 32 secret bytes."""
    path = folder / "id_ed25519"
    made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", KEY_PHRASE, "-C", "", "-f", str(path)]
    subprocess.run(made, check=True)
    key: Ed25519PrivateKey = load_ssh_private_key(path.read_bytes(), KEY_PHRASE.encode())  # type: ignore[assignment]
    return path, key.private_bytes_raw()


def parts_of(seed: bytes) -> dict[str, bytes]:
    """Return what a memory that signs holds: the key, its scalar, and pieces of a wrapped PEM."""
    pieces = {f"piece {at}": seed[at : at + 12] for at in range(0, 21, 4)}
    whole = {"seed": seed, "scalar": hashlib.sha512(seed).digest()[:32]}
    return {**whole, **pieces}


@dataclass
class Scene:
    """What was played, and what it left."""

    team: Team
    seed: bytes
    control: bytes
    left: Path
    """All that the job could read, and its own account of it."""
    said: list[str] = field(default_factory=list)

    @property
    def needles(self) -> Needles:
        secrets = {**parts_of(self.seed), "CONTROL": self.control}
        typed = {"PASSPHRASE": PASSPHRASE.encode(), "KEY PHRASE": KEY_PHRASE.encode()}
        return Needles(secrets | typed)

    @property
    def seen(self) -> dict[int, dict[str, bool]]:
        """Of each process, what could be read of it."""
        told = json.loads((self.left / "seen.json").read_text())["seen"]
        return {int(pid): what for pid, what in told.items()}

    @property
    def me(self) -> int:
        """The job's own process."""
        return int(json.loads((self.left / "seen.json").read_text())["me"])

    @property
    def parents(self) -> list[int]:
        """The processes above it, the nearest first."""
        found: list[int] = json.loads((self.left / "seen.json").read_text())["parents"]
        return found

    def process_of(self, part: str) -> set[int]:
        """Return the processes whose command has this part."""
        return {
            pid
            for pid in self.seen
            if part.encode() in (self.left / f"process-{pid}" / "cmdline").read_bytes()
        }


def play(team: Team, folder: Path) -> Scene:
    """Play it: the teacher lends a key, the student's job uses it and looks for it."""
    path, seed = made_key(folder)
    told = team.teacher(
        f"secret import-ssh-key GPU_KEY --file {path}", (f"passphrase of {path}", KEY_PHRASE)
    )
    path.unlink()
    team.teacher("secret share GPU_KEY --with group:students")
    control = controls(["CONTROL"])["CONTROL"]
    team.student.safe.put_secret("CONTROL", SecretPut(wrapped(Secret(control))))
    left = folder / "left"
    left.mkdir()
    scene = Scene(team, seed, control, left)
    (folder / "sshd").mkdir()
    with sshd_at(folder / "sshd", [told.splitlines()[-1]]) as sshd:
        submit_and_revoke(scene, sshd)
    return scene


def submit_and_revoke(scene: Scene, sshd: Sshd) -> None:
    """Run the job, and take the share back before its third login."""
    team, left = scene.team, scene.left
    (left / "login.json").write_text(json.dumps(sshd.command(options=LOG_IN_AS_SSH_DOES)))
    lent = f"--secret {team.runs}/GPU_KEY --secret CONTROL"
    others = f"{team.client.hello().pid} {team.serving.pid}"
    team.eve(f"submit {LOOKING} --name look --detach {lent} -- {left} {team.home} {others}")
    eventually(lambda: "looked" in printed(team.student, "look"), "it has looked around")
    team.teacher("secret share GPU_KEY --nobody")
    (left / "again").touch()
    job = over(team.student, "look")
    scene.said = [line.strip() for line in printed(team.student, "look").splitlines()]
    assert job.state is JobState.SUCCEEDED, scene.said


@pytest.fixture(scope="module")
def scene(no_keyring: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:  # noqa: ARG001
    """Give the scene, played once; what it left is removed: it is large."""
    folder = tmp_path_factory.mktemp("scene")
    with team_at(folder) as team:
        scene = play(team, folder)
        yield scene
    shutil.rmtree(scene.left)


def test_the_job_logs_in_by_the_key_until_it_is_taken_back(scene: Scene) -> None:
    first, second, looked, third = scene.said
    assert (first, second, looked) == ("login first: 0 first", "login second: 0 second", "looked")
    assert third == "login third: 255"


def test_nothing_that_the_job_can_read_holds_the_key(scene: Scene) -> None:
    found = scene.needles.in_files(scene.left, scene.team.home, scene.team.student_home)
    assert {name for names in found.values() for name in names} == {"CONTROL"}
    # What it was given to see, it sees: so the search is one.
    own = scene.left / f"process-{scene.me}"
    assert str(own / "memory") in found
    assert {Path(path).parent for path in found} == {own}


def test_the_job_looked_where_it_could_and_could_not_look_where_the_key_is(scene: Scene) -> None:
    controller, me = scene.team.client.hello().pid, scene.me
    assert scene.process_of("jupyter_aios.controller") == {controller}
    # The agent has CONTROL, to take it out of the output; the warm process has nothing.
    agent, *above = scene.parents
    assert above[0] in scene.process_of("jupyter_aios.training.zygote")
    readable = {pid for pid, told in scene.seen.items() if told["memory"]}
    assert readable == ({me, above[0]} if may_look_into_others() else {me})
    # In the terminal the passphrase was typed.
    terminal = scene.team.serving.pid
    for pid in (controller, agent, terminal):
        assert scene.seen[pid] == {"environ": False, "cmdline": True, "memory": False}
        assert {path.name for path in (scene.left / f"process-{pid}").iterdir()} == {"cmdline"}
    assert scene.seen[me] == {"environ": True, "cmdline": True, "memory": True}
    memory = scene.left / f"process-{me}" / "memory"
    assert memory.stat().st_size > 20 * 2**20
    copied = {path.name for path in files_below(scene.left / "home")}
    assert {"vault", "store.sqlite", "plan.json", "agent.events", "looking.py"} <= copied


def may_look_into_others() -> bool:
    """Return whether a process may read the memory of others of its user at all (Yama)."""
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    return not scope.exists() or scope.read_text().strip() == "0"


def test_the_audit_tells_the_scene_in_its_order(scene: Scene) -> None:
    team = scene.team
    page = team.client.safe.audit(AuditQuery(resource="GPU_KEY", limit=500))
    assert (page.fault, page.is_verified) == ("", True)
    told = [in_short(row) for row in reversed(page.rows)]
    runs, job = team.runs, team.student.job("look").id
    assert told == [
        (runs, "secret:set", True, ""),
        (runs, "secret:share", True, ""),
        ("eve", "secret:use", True, f"job {job}: shared with group:students"),
        ("eve", "secret:use", True, f"job {job}: a login as"),
        ("eve", "secret:use", True, f"job {job}: a login as"),
        (runs, "secret:share", True, ""),
        ("eve", "secret:use", False, f"job {job}: wants to log in: the key may not be used now"),
    ]


def in_short(row: AuditRow) -> tuple[str, str, bool, str]:
    """Return a row's who, what and, of what a job did, why; of a login without its host."""
    reason = row.reason.partition(" '")[0] if row.reason.startswith("job ") else ""
    return row.user, row.action, row.is_allowed, reason


def test_the_student_sees_of_the_key_what_a_student_may(scene: Scene) -> None:
    team = scene.team
    assert "GPU_KEY" not in team.eve("secret list")
    refused = team.eve(f"submit {LOOKING} --secret {team.runs}/GPU_KEY", code=2)
    assert refused.startswith(f"UnknownNameError: no secret of {team.runs} that you may use is")
    with pytest.raises(UnknownNameError):
        team.student.safe.remove_secret(team.runs, "GPU_KEY")
    own = team.student.safe.audit(AuditQuery(limit=500))
    assert {row.user for row in own.rows} == {"eve"}
    assert re.search(r"the chain of \d+ rows holds", team.eve("audit"))
    with pytest.raises(DeniedError):
        team.student.safe.lock()
