"""What an agent insists on before it starts ranks, and that it starts none without it."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_aios.core.entities import Allocation, NodeId, Placement, Resources, UserId
from jupyter_aios.core.ports import AttemptRef, LaunchPlan, Outcome
from jupyter_aios.core.wire import from_plain, to_plain
from jupyter_aios.training import admission
from jupyter_aios.training.admission import (
    KEY_FILE,
    REMEMBERED_S,
    USED_FOLDER,
    audience_of,
    permitted,
    why_denied,
)
from jupyter_aios.vault.permits import MAX_AGE_S, public_key
from tests.launching import Launchpad

SEED = bytes(range(32))
KEY = public_key(SEED)
OTHER_KEY = public_key(bytes(32))


def allow(plan: LaunchPlan, now: float | None = None) -> LaunchPlan:
    return permitted(
        plan,
        SEED,
        user=UserId("ada"),
        resources=Resources(),
        now=time.time() if now is None else now,
    )


class Machine:
    """A home with one job laid out in it, as an engine leaves it for the agent."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home
        pad = Launchpad(home)
        job = pad.job("print(1)", nodes=2)
        code = replace(job.spec.code, values=pad.blobs.put(b"values"))
        job = replace(job, spec=replace(job.spec, code=code))
        places = Allocation((Placement(0, NodeId("v0")), Placement(1, NodeId("v1"))))
        self.plan = pad.engine.plan(job, places, 1)
        self.attempt = pad.folder(AttemptRef(job.id, 1))
        self.code = Path(self.plan.folder, "code", "cell.py")
        self.values = Path(self.plan.folder, "values", str(code.values))
        for folder in (self.attempt, self.code.parent, self.values.parent):
            folder.mkdir(parents=True)
        self.code.write_text("print(1)")
        self.values.write_bytes(b"values")

    def told(self, plan: LaunchPlan, now: float | None = None) -> str:
        """Return why the agent would not start this plan, read from its file."""
        written = json.loads(json.dumps(to_plain(plan)))
        failure = why_denied(written, from_plain(LaunchPlan, written), self.attempt, now)
        assert failure is None or (failure.rank, failure.kind) == (None, "Denied")
        return "" if failure is None else failure.message

    def trust(self, text: str, mode: int = 0o644) -> None:
        (self.home / KEY_FILE).write_text(text)
        (self.home / KEY_FILE).chmod(mode)

    def used(self) -> list[str]:
        return [path.name for path in (self.home / USED_FOLDER).iterdir()]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "home")


def test_whoever_asks_for_no_permit_notices_nothing_of_it(machine: Machine) -> None:
    assert machine.told(machine.plan) == ""
    assert not (machine.home / USED_FOLDER).exists()


def test_a_permitted_plan_is_admitted_once(machine: Machine) -> None:
    plan = allow(machine.plan)
    assert machine.told(plan) == ""
    assert len(machine.used()) == 1
    assert "was used before" in machine.told(plan)
    assert machine.told(allow(machine.plan)) == ""


def test_a_plan_that_names_a_key_but_has_no_permit_is_refused(machine: Machine) -> None:
    plan = replace(machine.plan, permit_key=KEY)
    assert "the permit is missing or damaged\nhint: start the job again" in machine.told(plan)


@pytest.mark.parametrize(
    "changes",
    [
        {"argv": ("--evil",)},
        {"interpreter": "/tmp/python"},  # noqa: S108 - only named
        {"environment": (("LD_PRELOAD", "/x.so"),)},
        {"sys_path": ("/x",)},
        {"memory_limit_bytes": 2**40},
        {"timeout_s": None},
        {"keep_idle_s": 60.0},
    ],
)
def test_a_plan_that_was_changed_after_its_permit_is_refused(
    machine: Machine, changes: dict[str, Any]
) -> None:
    plan = allow(replace(machine.plan, timeout_s=60.0))
    assert "is not the one that was permitted" in machine.told(replace(plan, **changes))


def test_a_field_that_this_agent_does_not_know_counts_too(machine: Machine) -> None:
    plan = allow(machine.plan)
    written = to_plain(plan) | {"of_a_later_version": True}
    failure = why_denied(written, plan, machine.attempt)
    assert failure is not None
    assert "is not the one that was permitted" in failure.message


def test_other_ranks_than_the_permitted_are_refused(machine: Machine) -> None:
    assert audience_of(machine.plan) == "v0,v1"
    plan = allow(machine.plan)
    assert "made for node v0,v1, here is v0" in machine.told(replace(plan, ranks=plan.ranks[:1]))


def test_a_code_or_value_file_that_was_changed_is_refused(machine: Machine) -> None:
    for path in (machine.code, machine.values):
        before = path.read_bytes()
        path.write_bytes(before + b"#")
        assert f"{path} has been changed" in machine.told(allow(machine.plan))
        path.write_bytes(before)
    # What was refused has used nothing up.
    assert machine.used() == []
    assert machine.told(allow(machine.plan)) == ""


def test_a_file_that_is_missing_is_refused(machine: Machine) -> None:
    machine.values.unlink()
    assert "No such file" in machine.told(allow(machine.plan))


def test_an_expired_permit_is_refused(machine: Machine) -> None:
    now = time.time()
    told = machine.told(allow(machine.plan, now), now + MAX_AGE_S + 3)
    assert "the permit expired 3 s ago" in told


def test_of_eight_agents_with_the_same_permit_one_is_admitted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if all had looked before the first of them came to take it.
    monkeypatch.setattr(admission, "_used", lambda _folder, _now: ())
    plan = allow(machine.plan)
    written = to_plain(plan)
    told: list[str] = []
    start = threading.Barrier(8)

    def be_an_agent() -> None:
        start.wait()
        failure = why_denied(written, plan, machine.attempt)
        told.append("" if failure is None else failure.message)

    agents = [threading.Thread(target=be_an_agent) for _ in range(8)]
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.join()
    assert told.count("") == 1
    assert all("was used before" in one for one in told if one)


def test_used_permits_are_forgotten_long_after_they_could_be_used(machine: Machine) -> None:
    assert machine.told(allow(machine.plan)) == ""
    (old,) = machine.used()
    path = machine.home / USED_FOLDER / old
    for age_s, is_kept in ((REMEMBERED_S - 60, True), (REMEMBERED_S + 60, False)):
        os.utime(path, (time.time() - age_s,) * 2)
        assert machine.told(allow(machine.plan)) == ""
        assert (old in machine.used()) is is_kept


def test_what_cannot_be_remembered_is_not_admitted(machine: Machine) -> None:
    # A file in the folder's place stands for every disk that does not take the mark.
    (machine.home / USED_FOLDER).write_text("")
    assert "does not admit the attempt" in machine.told(allow(machine.plan))


# ----------------------------------------------------------------- the key that a machine trusts


def test_a_machine_that_trusts_a_key_admits_nothing_without_a_permit(machine: Machine) -> None:
    machine.trust(KEY)
    assert "the plan comes with none" in machine.told(machine.plan)
    assert machine.told(allow(machine.plan)) == ""


def test_a_plan_that_brings_a_key_of_its_own_is_refused(machine: Machine) -> None:
    machine.trust(OTHER_KEY)
    assert f"trusts the key {OTHER_KEY[:12]}…" in machine.told(allow(machine.plan))


def test_a_machine_that_knows_its_nodes_refuses_plans_for_others(machine: Machine) -> None:
    machine.trust(f"{KEY} v1 v2\n")
    assert "the plan is for v0, here is v1, v2" in machine.told(allow(machine.plan))
    machine.trust(f"{KEY} v0 v1\n")
    assert machine.told(allow(machine.plan)) == ""


@pytest.mark.parametrize("mode", [0o666, 0o664])
def test_a_trusted_key_that_others_can_change_is_not_trusted(machine: Machine, mode: int) -> None:
    machine.trust(KEY, mode)
    told = machine.told(allow(machine.plan))
    assert "others can change" in told
    assert f"chmod 644 '{machine.home / KEY_FILE}'" in told


def test_an_empty_file_of_trust_admits_nothing(machine: Machine) -> None:
    machine.trust("")
    assert "holds no key" in machine.told(machine.plan)


# ----------------------------------------------------------------- real agents


def test_a_real_agent_starts_ranks_with_a_permit_and_none_without(launchpad: Launchpad) -> None:
    def launch(permit: str | None) -> AttemptRef:
        job = launchpad.job("print('it runs')")
        places = Allocation((Placement(0, NodeId("v0")),))
        plan = allow(launchpad.engine.plan(job, places, 1))
        launchpad.engine.launch(plan if permit is None else replace(plan, permit=permit))
        return AttemptRef(job.id, 1)

    admitted, denied = launch(None), launch("")
    assert launchpad.wait(admitted).outcome is Outcome.SUCCEEDED
    assert launchpad.printed(admitted) == "it runs\n"
    status = launchpad.wait(denied)
    assert (status.outcome, status.exits) == (Outcome.FAILED, ())
    assert status.failure is not None
    assert status.failure.kind == "Denied"
    assert "the permit is missing or damaged" in status.failure.message
    assert list(launchpad.folder(denied).glob("rank-*")) == []
