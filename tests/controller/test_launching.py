"""What a launch takes beside its plan, decided at the moment it starts, and given back after it."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_aios.controller.access import user_name
from jupyter_aios.core.entities import Job, SecretUse, UserId
from jupyter_aios.core.policy import Member, Role
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, LaunchPlan, Outcome
from jupyter_aios.core.safe import SecretShares
from jupyter_aios.core.secrets import Secret, SecretClass, Share
from jupyter_aios.core.states import JobState
from jupyter_aios.core.wire import from_plain, to_plain
from jupyter_aios.testing.engines import FakeEngine
from jupyter_aios.training.admission import why_denied
from jupyter_aios.vault.permits import MAX_AGE_S
from tests.controller.hub import VALUE, Hub, ask
from tests.controller.rig import ME, SOURCE, Rig, fake_spec
from tests.controller.sshd import AgentClient
from tests.controller.test_ssh_broker import FAILURE, SIGNED, login, sign_request
from tests.controller.test_ssh_keys import generate, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_aios.controller.ssh_keys import SigningKey
    from jupyter_aios.core.entities import Allocation

BOB = UserId("bob")
RUNS = user_name(os.getuid())
WAITS = "waits for the vault: %aios unlock"
BROKER, DERIVED = SecretClass.BROKER, SecretClass.DERIVED
TO_BOB, TO_BOB_READ = (Share("user:bob"),), (Share("user:bob", "read"),)


@pytest.fixture
def runtime() -> Iterator[Path]:
    """Give a folder for sockets, where in the end nothing of any job may be left."""
    with tempfile.TemporaryDirectory(prefix="aios-rig-") as folder:
        yield Path(folder)
        left = [str(path) for path in Path(folder).rglob("*") if path.name != "jobs"]
        assert left == []


@pytest.fixture
def rig(tmp_path: Path, runtime: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "home", runtime=runtime)
    rig.open_vault()
    yield rig
    rig.controller.close()


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("ssh"), "ed25519")


@pytest.fixture
def key(key_file: Path) -> SigningKey:
    return parse(key_file)


def submit(rig: Rig, owner: UserId = ME, *secrets: str, **changes: Any) -> Job:
    """Submit a job with these of ada's secrets."""
    rig.fake.machine.now += 0.001
    uses = tuple(SecretUse(name, owner="" if owner == ME else ME) for name in secrets)
    return rig.controller.service.submit(fake_spec(secrets=uses, **changes), owner)


def now(rig: Rig, job: Job) -> Job:
    found = rig.controller.ledger.job(job.id)
    assert found is not None
    return found


def plan_of(rig: Rig, job: Job) -> LaunchPlan:
    return rig.fake.attempt(AttemptRef(job.id, now(rig, job).attempt)).plan


def agent_of(rig: Rig, job: Job) -> Path:
    return Path(dict(plan_of(rig, job).environment)["SSH_AUTH_SOCK"])


def end(rig: Rig, job: Job) -> None:
    rig.fake.attempt(AttemptRef(job.id, now(rig, job).attempt)).end(Outcome.SUCCEEDED)


def start_with_key(rig: Rig, key_file: Path, owner: UserId = ME, **changes: Any) -> Job:
    """Start a job that logs in somewhere with ada's key."""
    names = {row.info.name for row in rig.secrets.rows(rig.actor(ME))}
    if "SSH" not in names:
        rig.put_secret("SSH", key_file.read_bytes(), BROKER, shares=TO_BOB)
    job = submit(rig, owner, "SSH", **changes)
    rig.turn()
    assert now(rig, job).state is JobState.STARTING
    return job


# ------------------------------------------------------------------------ a locked vault


def test_a_job_with_secrets_waits_for_the_vault_and_holds_nobody_up(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    rig.controller.keeper.lock()
    waiting = submit(rig, ME, "TOKEN", nodes=4)
    behind = submit(rig, ME, nodes=4, name="behind")
    rig.turn()
    assert (now(rig, waiting).state, now(rig, waiting).reason) == (JobState.QUEUED, WAITS)
    assert now(rig, behind).state is JobState.STARTING
    end(rig, behind)
    rig.turn()
    assert now(rig, waiting).reason == WAITS
    rig.open_vault()
    rig.turn()
    assert now(rig, waiting).state is JobState.STARTING
    assert rig.states(waiting) == ["queued", "placed", "starting"]


def test_without_any_vault_a_job_with_secrets_waits_too_and_others_do_not(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "home")
    waiting, other = submit(rig, ME, "TOKEN"), submit(rig, ME, name="other")
    rig.turn()
    assert (now(rig, waiting).state, now(rig, waiting).reason) == (JobState.QUEUED, WAITS)
    assert now(rig, other).state is JobState.STARTING
    rig.open_vault()
    rig.turn()
    assert now(rig, waiting).state is JobState.FAILED
    assert "no secret is named 'TOKEN'" in now(rig, waiting).reason
    rig.controller.close()


class LockingEngine(FakeEngine):
    """Has the vault locked in the middle of a launch, once."""

    rig: Rig
    is_armed = False

    def plan(self, job: Job, allocation: Allocation, attempt: int) -> LaunchPlan:
        if self.is_armed:
            self.is_armed = False
            self.rig.controller.keeper.lock()
        return super().plan(job, allocation, attempt)


@pytest.mark.parametrize("is_serving", [False, True])
def test_a_vault_that_is_locked_in_the_moment_of_the_launch_puts_the_job_back(
    tmp_path: Path, runtime: Path, *, is_serving: bool
) -> None:
    engine = LockingEngine(tmp_path)
    engine.rig = rig = Rig(tmp_path / "home", engine=engine, runtime=runtime)
    rig.open_vault()
    rig.put_secret("TOKEN", VALUE)
    rig.controller.launching.permits = is_serving
    job = submit(rig, ME, *([] if is_serving else ["TOKEN"]))
    engine.is_armed = True
    rig.turn()
    assert (now(rig, job).state, now(rig, job).reason) == (JobState.QUEUED, WAITS)
    assert engine.machine.claims == {}
    rig.turn()
    assert now(rig, job).reason == WAITS
    rig.open_vault()
    rig.turn()
    assert now(rig, job).state is JobState.STARTING
    assert rig.states(job) == ["queued", "placed", "queued", "placed", "starting"]
    rig.controller.close()


# ------------------------------------------------------------------------ what a job gets


def test_a_value_goes_beside_the_plan_and_never_in_it(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE)
    rig.put_secret("UNASKED", "not for this job")
    job = submit(rig, ME, "TOKEN")
    rig.turn()
    attempt = rig.fake.attempt(AttemptRef(job.id, 1))
    assert attempt.delivery.secrets == {"TOKEN": Secret(VALUE)}
    for kept in (attempt.plan, now(rig, job), *rig.store.history(job.id), *rig.store.audit(99)):
        assert VALUE not in json.dumps(to_plain(kept))


def test_what_a_job_gets_is_in_the_audit_before_it_starts(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE, shares=TO_BOB_READ)
    job = submit(rig, BOB, "TOKEN")
    rig.turn()
    (row,) = rig.store.audit(9, action="secret:read")
    assert (row.user, row.resource, row.is_allowed) == (BOB, "secret:ada/TOKEN", True)
    assert row.reason == f"job {job.id}: shared with user:bob"
    assert row.is_sealed
    (seen,) = rig.secrets.rows(rig.actor(ME))
    assert seen.last_used_by == f"bob, job {job.id}"


def test_what_cannot_be_written_down_is_not_delivered(rig: Rig, key_file: Path) -> None:
    rig.put_secret("TOKEN", VALUE)
    rig.put_secret("SSH", key_file.read_bytes(), BROKER)
    job = submit(rig, ME, "TOKEN", "SSH")
    store: Any = rig.store
    add_audit = store.add_audit

    def fill(*args: Any) -> None:
        store.is_full = "secret:" in args[0].action
        add_audit(*args)

    store.add_audit = fill
    rig.turn()
    assert rig.fake.machine.claims.get(AttemptRef(job.id, 1)) is None
    assert rig.store.audit(9, action="secret:read") == []
    store.add_audit, store.is_full = add_audit, False
    rig.turn(2)
    assert now(rig, job).state is JobState.STARTING
    assert len(rig.store.audit(9, action="secret:read")) == 1


# ------------------------------------------------------------------------ decided once more


def test_a_share_that_was_taken_back_while_the_job_waited_fails_it_and_says_so(rig: Rig) -> None:
    info = rig.put_secret("TOKEN", VALUE, shares=TO_BOB_READ)
    job = submit(rig, BOB, "TOKEN")
    rig.secrets.share(info, SecretShares(()))
    rig.turn()
    assert now(rig, job).state is JobState.FAILED
    assert now(rig, job).reason == (
        "it could not be started: no secret of ada that you may use is named 'TOKEN'"
        " hint: %aios secret list shows yours and those shared with you; ask ada"
    )
    row = rig.store.audit(1, action="secret:read")[0]
    assert (row.user, row.is_allowed) == (BOB, False)


def test_a_right_that_was_reduced_while_the_job_waited_fails_it_and_says_so(rig: Rig) -> None:
    info = rig.put_secret("TOKEN", VALUE, shares=TO_BOB_READ)
    job = submit(rig, BOB, "TOKEN")
    rig.secrets.share(info, SecretShares(TO_BOB))
    rig.turn()
    assert now(rig, job).state is JobState.FAILED
    assert "bob (student) may not secret:read on secret 'ada/TOKEN'" in now(rig, job).reason
    assert "ask ada" in now(rig, job).reason


def test_a_role_that_was_taken_away_while_the_job_waited_fails_it(rig: Rig) -> None:
    job = submit(rig, BOB)
    rig.store.save_member(Member(BOB, Role.GUEST))
    rig.turn()
    assert now(rig, job).state is JobState.FAILED
    assert "bob (guest) may not job:submit" in now(rig, job).reason


def test_a_share_that_is_taken_back_counts_from_the_next_attempt_on(rig: Rig) -> None:
    info = rig.put_secret("TOKEN", VALUE, shares=TO_BOB_READ)
    job = submit(rig, BOB, "TOKEN", max_restarts=1)
    rig.turn()
    rig.secrets.share(info, SecretShares(()))
    rig.turn()
    assert now(rig, job).state is JobState.STARTING
    rig.fake.advance(AttemptRef(job.id, 1), AttemptPhase.ENDED, outcome=Outcome.FAILED)
    rig.turn()
    assert now(rig, job).attempt == 2
    assert "no secret of ada that you may use" in now(rig, job).reason


def test_a_submission_hears_at_once_what_can_be_told(rig: Rig) -> None:
    rig.put_secret("TOKEN", VALUE, shares=TO_BOB)
    with pytest.raises(Exception, match="may not secret:read") as caught:
        submit(rig, BOB, "TOKEN")
    assert type(caught.value).__name__ == "DeniedError"
    assert rig.store.find_jobs() == []


# ------------------------------------------------------------------------ SSH keys


def test_a_job_has_its_key_used_and_each_use_is_written_down(
    rig: Rig, key_file: Path, key: SigningKey
) -> None:
    job = start_with_key(rig, key_file, BOB)
    with AgentClient(agent_of(rig, job)) as client:
        assert client.ask(sign_request(key, login(key)))[0] == SIGNED
    row = rig.store.audit(1, action="secret:use")[0]
    assert (row.user, row.resource, row.is_allowed) == (BOB, "secret:ada/SSH", True)
    assert row.reason.startswith(f"job {job.id}: a login as 'ada'")
    assert rig.fake.attempt(AttemptRef(job.id, 1)).delivery.secrets == {}


def test_between_two_signatures_a_share_can_be_taken_back(
    rig: Rig, key_file: Path, key: SigningKey
) -> None:
    job = start_with_key(rig, key_file, BOB)
    with AgentClient(agent_of(rig, job)) as client:
        assert client.ask(sign_request(key, login(key)))[0] == SIGNED
        rig.secrets.share(rig.secrets.find(ME, "SSH"), SecretShares(()))
        assert client.ask(sign_request(key, login(key))) == FAILURE
    assert not rig.store.audit(1, action="secret:use")[0].is_allowed


@pytest.mark.parametrize("change", ["locked", "removed", "guest"])
def test_what_else_ends_the_use_of_a_key_by_a_job_that_runs(
    rig: Rig, key_file: Path, key: SigningKey, change: str
) -> None:
    job = start_with_key(rig, key_file, BOB)
    with AgentClient(agent_of(rig, job)) as client:
        assert client.ask(sign_request(key, login(key)))[0] == SIGNED
        if change == "locked":
            rig.controller.keeper.lock()
        elif change == "removed":
            rig.secrets.remove(rig.secrets.find(ME, "SSH"))
        else:
            # A share of a group that bob is not in any more.
            rig.secrets.share(rig.secrets.find(ME, "SSH"), SecretShares((Share("group:ml"),)))
            rig.store.save_member(Member(BOB, Role.GUEST))
        assert client.ask(sign_request(key, login(key))) == FAILURE


def test_two_jobs_have_two_sockets_and_each_goes_with_its_job(
    rig: Rig, key_file: Path, key: SigningKey, runtime: Path
) -> None:
    first = start_with_key(rig, key_file, name="first")
    second = start_with_key(rig, key_file, name="second")
    sockets = [agent_of(rig, job) for job in (first, second)]
    assert len(set(sockets)) == 2
    assert all(path.is_socket() and path.is_relative_to(runtime) for path in sockets)
    assert {path.parent.stat().st_mode & 0o777 for path in sockets} == {0o700}
    end(rig, first)
    rig.turn()
    assert [path.exists() for path in sockets] == [False, True]
    assert not sockets[0].parent.parent.exists()
    with AgentClient(sockets[1]) as client:
        assert client.ask(sign_request(key, login(key)))[0] == SIGNED


def test_a_launch_that_the_engine_refuses_leaves_no_socket(rig: Rig, key_file: Path) -> None:
    rig.put_secret("SSH", key_file.read_bytes(), BROKER)
    rig.fake.refusal = LookupError("no room")  # type: ignore[assignment]
    job = submit(rig, ME, "SSH")
    rig.turn()
    assert now(rig, job).state is JobState.FAILED
    assert list(rig.runtime.glob("jobs/*")) == []


def test_after_a_restart_the_sockets_are_back_as_soon_as_the_vault_is_open(
    rig: Rig, key_file: Path, key: SigningKey
) -> None:
    job = start_with_key(rig, key_file, BOB)
    path = agent_of(rig, job)
    rig.restart()
    rig.turn()
    assert not path.exists()
    assert now(rig, job).state is JobState.STARTING
    rig.open_vault()
    rig.turn()
    with AgentClient(path) as client:
        assert client.ask(sign_request(key, login(key)))[0] == SIGNED
    end(rig, job)
    rig.turn()
    assert not path.exists()


def test_after_a_restart_who_lost_the_right_meanwhile_has_no_socket(
    rig: Rig, key_file: Path
) -> None:
    job = start_with_key(rig, key_file, BOB)
    path = agent_of(rig, job)
    rig.secrets.share(rig.secrets.find(ME, "SSH"), SecretShares(()))
    rig.restart()
    rig.open_vault()
    rig.turn(2)
    assert not path.exists()
    assert now(rig, job).state is JobState.STARTING


def test_a_runtime_folder_that_is_lost_takes_only_the_sockets(
    rig: Rig, key_file: Path, tmp_path: Path
) -> None:
    job = start_with_key(rig, key_file)
    (tmp_path / "file").touch()
    rig.runtime = tmp_path / "file"
    rig.restart()
    rig.open_vault()
    rig.turn()
    end(rig, job)
    rig.turn()
    assert now(rig, job).state is JobState.SUCCEEDED


def test_a_key_that_is_none_any_more_fails_its_job_only(rig: Rig) -> None:
    rig.controller.keeper.open_vault().set(ME, "SSH", Secret("damaged"), BROKER, now=0.0)
    broken, other = submit(rig, ME, "SSH"), submit(rig, ME, name="other")
    rig.turn()
    assert now(rig, broken).state is JobState.FAILED
    assert "not a private key" in now(rig, broken).reason
    assert now(rig, other).state is JobState.STARTING


# ------------------------------------------------------------------------ requests


def test_a_job_has_requests_sent_with_a_secret_until_it_may_not(rig: Rig, key_file: Path) -> None:
    hub = Hub(None)
    try:
        info = rig.put_secret("HUB", VALUE, DERIVED, owner=RUNS, target=hub.url())
        rig.put_secret("SSH", key_file.read_bytes(), BROKER, owner=RUNS)
        shares = SecretShares((Share("user:bob"),))
        rig.secrets.share(info, shares)
        rig.secrets.share(rig.secrets.find(RUNS, "SSH"), shares)
        uses = SecretUse("HUB", owner=RUNS), SecretUse("SSH", owner=RUNS)
        job = rig.controller.service.submit(fake_spec(secrets=uses), BOB)
        rig.turn()
        environment = dict(plan_of(rig, job).environment)
        assert agent_of(rig, job).is_socket()
        path = Path(environment["AIOS_FETCH_SOCKET"])
        reply = ask(path, "/HUB/blob/100")
        assert (reply.status, len(reply.body)) == (200, 100)
        row = rig.store.audit(1, action="secret:use")[0]
        assert (row.user, row.resource) == (BOB, f"secret:{RUNS}/HUB")
        assert row.reason == f"job {job.id}: GET 127.0.0.1:{hub.port}/api/blob/100 → 200"
        rig.secrets.share(info, SecretShares(()))
        assert ask(path, "/HUB/blob/100").status == 403
        assert len(hub.seen) == 1
        end(rig, job)
        rig.turn()
        assert not path.exists()
    finally:
        hub.close()


# ------------------------------------------------------------------------ permits


def told_by_the_agent(rig: Rig, plan: LaunchPlan, at: float) -> str:
    """Return why an agent would not start this plan, or nothing."""
    home = rig.home
    code = Path(plan.folder, "code", "train.py")
    code.parent.mkdir(parents=True, exist_ok=True)
    code.write_bytes(SOURCE)
    folder = home / "jobs" / plan.job_id / "attempts" / str(plan.attempt)
    folder.mkdir(parents=True, exist_ok=True)
    written = json.loads(json.dumps(to_plain(plan)))
    failure = why_denied(written, from_plain(LaunchPlan, written), folder, at)
    return "" if failure is None else failure.message


def test_whoever_is_alone_needs_no_permit(rig: Rig) -> None:
    job = submit(rig)
    rig.turn()
    assert (plan_of(rig, job).permit, plan_of(rig, job).permit_key) == ("", "")


def test_who_serves_others_signs_a_permit_that_the_agent_takes_once(
    rig: Rig, key_file: Path
) -> None:
    rig.controller.launching.permits = True
    # With a socket in its environment, which is part of what is permitted.
    job = start_with_key(rig, key_file, nodes=2)
    plan, at = plan_of(rig, job), rig.fake.machine.now
    assert plan.permit
    later = at + MAX_AGE_S + 1
    assert "expired 1 s ago" in told_by_the_agent(rig, plan, later)
    other = replace(plan, environment=(*plan.environment, ("LD_PRELOAD", "/x.so")))
    assert "is not the one that was permitted" in told_by_the_agent(rig, other, at)
    assert "attempt 1, here is 2" in told_by_the_agent(rig, replace(plan, attempt=2), at)
    assert told_by_the_agent(rig, plan, at) == ""
    assert "was used before" in told_by_the_agent(rig, plan, at)


def test_permits_are_signed_by_the_key_of_the_vault(rig: Rig) -> None:
    rig.controller.launching.permits = True
    first, second = submit(rig), submit(rig, name="second")
    rig.turn()
    rig.restart()
    rig.open_vault()
    rig.controller.launching.permits = True
    third = submit(rig, name="third")
    rig.turn()
    plans = [plan_of(rig, job) for job in (first, second, third)]
    assert len({plan.permit_key for plan in plans}) == 1
    assert len({plan.permit for plan in plans}) == 3


def test_who_serves_others_launches_nothing_while_the_vault_is_locked(rig: Rig) -> None:
    rig.controller.launching.permits = True
    rig.controller.keeper.lock()
    job = submit(rig)
    rig.turn()
    assert (now(rig, job).state, now(rig, job).reason) == (JobState.QUEUED, WAITS)
    rig.open_vault()
    rig.turn()
    assert now(rig, job).state is JobState.STARTING
    assert plan_of(rig, job).permit
