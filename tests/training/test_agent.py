"""How attempts end: by themselves, by order, by force, and what is left then (nothing)."""

from __future__ import annotations

import os
import signal
import subprocess
import textwrap
import time
from pathlib import Path

import pytest

from jupyter_aios.core.entities import Launcher, StopReason
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, AttemptRef, Outcome
from jupyter_aios.training.journal import read_json
from tests.launching import Launchpad, eventually

SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(60)"
DEAF = "import signal\nfor s in (2, 15): signal.signal(s, signal.SIG_IGN)\n" + SLEEP
ALL_REDUCE = """\
import os, time, torch, torch.distributed as dist
dist.init_process_group("gloo")
for i in range(100_000):
    if dist.get_rank() == 2 and i == 20:
        {act}
    dist.all_reduce(torch.ones(10))
"""
both_launchers = pytest.mark.parametrize("launcher", list(Launcher))


def agent_pid(pad: Launchpad, ref: AttemptRef) -> int:
    pid: int = read_json(pad.folder(ref) / "agent.json")["pid"]
    return pid


def living_sleeps(seconds: str) -> list[str]:
    """Return the pids of `sleep SECONDS`; a test chooses a number that nobody else has."""
    found = subprocess.run(["pgrep", "-fx", f"sleep {seconds}"], capture_output=True, check=False)
    return found.stdout.decode().split()


def notices(pad: Launchpad, ref: AttemptRef) -> list[str]:
    events = pad.events(ref)
    return [str(e.data["text"]) for e in events if e.kind is EventKind.NOTICE and e.data]


def test_one_rank_raises_and_the_others_end_within_five_seconds(launchpad: Launchpad) -> None:
    launchpad.finish("pass")  # the zygote is warm: its start is not what is measured here
    ref = launchpad.run(
        "import os\ndef divide(x):\n    return 1 / x\n"
        "if os.environ['RANK'] == '1':\n    divide(0)\n" + DEAF,
        nodes=4,
    )
    begun = time.monotonic()
    status = launchpad.wait(ref)
    assert time.monotonic() - begun < 5
    assert status.outcome is Outcome.FAILED
    assert status.failure is not None
    assert (status.failure.rank, status.failure.kind) == (1, "ZeroDivisionError")
    assert 'File "Cell In[3]", line 5' in status.failure.traceback
    assert "return 1 / x" in status.failure.traceback
    assert "bootstrap" not in status.failure.traceback


def test_the_cause_is_told_rather_than_its_consequences(launchpad: Launchpad) -> None:
    for act, kind in (
        ("raise ValueError('bad batch')", "ValueError"),
        ("os.kill(os.getpid(), 9)", "Signal"),
    ):
        status = launchpad.finish(ALL_REDUCE.format(act=act), nodes=4)
        assert status.failure is not None
        assert (status.failure.rank, status.failure.kind) == (2, kind)


@both_launchers
def test_a_rank_killed_by_nine_is_named_with_signal_and_cause(
    launchpad: Launchpad, launcher: Launcher
) -> None:
    source = ALL_REDUCE.format(act="os.kill(os.getpid(), 9)")
    status = launchpad.finish(source, nodes=3, launcher=launcher)
    assert status.outcome is Outcome.FAILED
    assert status.exits[2].code == -signal.SIGKILL
    assert status.failure is not None
    assert "rank 2 was killed by SIGKILL" in status.failure.message


@both_launchers
def test_a_stop_interrupts_and_leaves_no_process(launchpad: Launchpad, launcher: Launcher) -> None:
    own = "61.25" if launcher is Launcher.WARM else "61.5"
    source = f"import subprocess\nsubprocess.Popen(['sleep', '{own}'], start_new_session=True)\n"
    ref = launchpad.run(source + SLEEP, nodes=2, launcher=launcher)
    launchpad.wait(ref, AttemptPhase.RUNNING)
    eventually(lambda: len(living_sleeps(own)) == 2, "both ranks have their child")
    launchpad.engine.stop(ref, StopReason.CANCELLED)
    launchpad.engine.stop(ref, StopReason.CANCELLED)
    status = launchpad.wait(ref)
    assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.CANCELLED)
    assert living_sleeps(own) == []


def test_a_rank_that_ignores_signals_is_killed_after_five_seconds(launchpad: Launchpad) -> None:
    ref = launchpad.run(DEAF, nodes=2)
    eventually(lambda: "up" in launchpad.printed(ref, 1), "the rank is deaf")
    begun = time.monotonic()
    launchpad.engine.stop(ref, StopReason.CANCELLED)
    status = launchpad.wait(ref)
    assert 4.5 < time.monotonic() - begun < 8
    assert [item.code for item in status.exits] == [-9, -9]


def test_a_stop_before_the_launch_means_that_it_never_starts(launchpad: Launchpad) -> None:
    job = launchpad.job("print('never')")
    ref = AttemptRef(job.id, 1)
    launchpad.engine.stop(ref, StopReason.CANCELLED)
    launchpad.launch(job)
    status = launchpad.wait(ref)
    assert status.stopped_for is StopReason.CANCELLED
    assert launchpad.events(ref) == ()
    # Whoever answers next shows that the zygote has dealt with the fenced one.
    launchpad.finish("pass")
    assert launchpad.events(ref) == ()


@both_launchers
def test_a_killed_agent_takes_its_ranks_and_their_children_along(
    launchpad: Launchpad, launcher: Launcher
) -> None:
    own = "62.25" if launcher is Launcher.WARM else "62.5"
    source = f"import subprocess\nsubprocess.Popen(['sleep', '{own}'])\n" + SLEEP
    ref = launchpad.run(source, nodes=2, launcher=launcher)
    launchpad.wait(ref, AttemptPhase.RUNNING)
    eventually(lambda: len(living_sleeps(own)) == 2, "both ranks have their child")
    events = [e for e in launchpad.events(ref) if e.kind is EventKind.PHASE and e.data]
    pids = [int(e.data["pid"]) for e in events if e.data]
    os.kill(agent_pid(launchpad, ref), signal.SIGKILL)
    status = launchpad.wait(ref)
    assert status.outcome is Outcome.LOST

    def is_gone(pid: int) -> bool:
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"

    eventually(lambda: all(is_gone(pid) for pid in pids), "the ranks have ended", 5)
    assert living_sleeps(own) == []


def test_the_timeout_stops_a_job(launchpad: Launchpad) -> None:
    status = launchpad.finish(SLEEP, timeout_s=0.5)
    assert (status.outcome, status.stopped_for) == (Outcome.STOPPED, StopReason.TIMEOUT)


def test_a_rank_that_does_not_start_in_time_ends_the_job(
    launchpad: Launchpad, tmp_path: Path
) -> None:
    # Python reads it at start-up, in the rank only: elastic's own start is not meant.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, time\nif os.environ.get('RANK') == '1': time.sleep(60)"
    )
    status = launchpad.finish(
        "pass",
        nodes=2,
        launcher=Launcher.TORCHRUN,
        start_deadline_s=6.0,
        environment={"PYTHONPATH": f"{tmp_path}:."},
    )
    assert status.failure is not None
    assert status.failure.kind == "Deadline"
    assert "did not start within 6.0 s" in status.failure.message


def test_a_rank_that_hangs_at_exit_is_killed_and_counts_as_done(launchpad: Launchpad) -> None:
    source = "import atexit, time\natexit.register(time.sleep, 60)"
    ref = launchpad.run(source, teardown_deadline_s=0.5)
    status = launchpad.wait(ref)
    assert status.outcome is Outcome.SUCCEEDED
    assert any("hung at exit" in text for text in notices(launchpad, ref))


def test_silence_marks_a_job_as_stalled_and_kills_nothing(launchpad: Launchpad) -> None:
    source = (
        "import pathlib, time\nwhile not pathlib.Path('go').exists(): time.sleep(0.01)\nprint(1)"
    )
    go = launchpad.home / "go"
    ref = launchpad.run(source, stall_after_s=0.3)
    eventually(lambda: launchpad.engine.status(ref).is_stalled, "it is stalled")
    go.touch()
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    assert not launchpad.engine.status(ref).is_stalled
    go.unlink()


def test_output_beyond_the_limit_is_left_out_except_its_end(launchpad: Launchpad) -> None:
    ref = launchpad.run(
        "for i in range(40_000): print(i, 'x' * 50)\nprint('the end')", log_limit_bytes=200_000
    )
    launchpad.wait(ref)
    text = launchpad.printed(ref)
    assert len(text) < 400_000
    assert text.startswith("0 xxx")
    assert text.endswith("the end\n")
    told = notices(launchpad, ref)
    assert any("--log-limit 195 KiB" in notice for notice in told)
    assert any("left out here" in notice for notice in told)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_loses_output_but_not_the_job(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=True)
    try:
        pad = Launchpad(mount)
        ref = pad.run(
            "for i in range(40_000): print(i, 'x' * 50)\nopen('/dev/null', 'w').write('done')"
        )
        status = pad.wait(ref)
        pad.engine.close()
        assert status.outcome is Outcome.SUCCEEDED
        lines = pad.printed(ref).splitlines()
        head = [f"{i} {'x' * 50}" for i in range(1000)]
        assert lines[:1000] == head
        assert lines[-1] == head[0].replace("0", "39999", 1)
        assert any("No space left" in text for text in notices(pad, ref))
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


CGROUP = Path("/sys/fs/cgroup/memory")


@pytest.mark.skipif(
    os.geteuid() != 0 or not (CGROUP / "memory.limit_in_bytes").exists(),
    reason="a memory cgroup (version 1) and root are needed to run out of memory alone",
)
def test_the_kernels_out_of_memory_killer_is_recognised(launchpad: Launchpad) -> None:
    group = CGROUP / f"aios-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(100 * 2**20))
        status = launchpad.finish(
            textwrap.dedent(f"""\
                import os, pathlib
                pathlib.Path({str(group / "cgroup.procs")!r}).write_text(str(os.getpid()))
                kept = []
                while True: kept.append(b"x" * 10**7)
            """)
        )
        assert status.failure is not None
        assert "rank 0 was killed by SIGKILL: out of memory" in status.failure.message
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), "the group is empty")
        group.rmdir()


TRAIN = textwrap.dedent("""\
    import os, torch, torch.distributed as dist, random, numpy
    from torch.utils.data import DistributedSampler
    from jupyter_aios.training import context as aios
    dist.init_process_group("gloo")
    torch.manual_seed(dist.get_rank())
    torch.use_deterministic_algorithms(True)
    net = torch.nn.Linear(4, 1)
    torch.nn.init.ones_(net.weight)
    model = torch.nn.parallel.DistributedDataParallel(net)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    sampler = DistributedSampler(range(100))
    extra = {"seen": 0}
    start = aios.restore(model=model, optimizer=optimizer, sampler=sampler, extra=extra)
    print("start", start, sampler.epoch, extra["seen"])
    for step in range(start, 20):
        sampler.set_epoch(step)
        loss = model(torch.randn(8, 4)).pow(2).mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        extra["seen"] += 8
        aios.checkpoint(step, model=model, optimizer=optimizer, sampler=sampler, extra=extra)
        is_first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
        if step == KILL_AT and dist.get_rank() == 1 and is_first:
            os.kill(os.getpid(), 9)
    print("end", f"{loss.item():.10f}", random.random() < 2, numpy.random.rand() < 2, extra["seen"])
    print("state", f"{sum(p.double().sum().item() for p in model.parameters()):.12f}")
""")


def test_a_restarted_job_goes_on_from_its_checkpoint_to_equal_bits(launchpad: Launchpad) -> None:
    unbroken = launchpad.run(TRAIN.replace("KILL_AT", "-1"), nodes=2)
    assert launchpad.wait(unbroken).outcome is Outcome.SUCCEEDED
    job = launchpad.job(TRAIN.replace("KILL_AT", "11"), nodes=2, max_restarts=1)
    first = launchpad.wait(launchpad.launch(job, 1))
    assert first.outcome is Outcome.FAILED
    assert first.checkpoint_step in (10, 11)
    second = launchpad.launch(job, 2)
    status = launchpad.wait(second)
    assert status.outcome is Outcome.SUCCEEDED, status.failure
    assert status.resumed_step in (10, 11)
    for rank in (0, 1):
        assert (
            launchpad.printed(unbroken, rank).splitlines()[-2:]
            == (launchpad.printed(second, rank).splitlines()[-2:])
        )


def test_a_damaged_checkpoint_is_passed_over(launchpad: Launchpad) -> None:
    job = launchpad.job(TRAIN.replace("KILL_AT", "11"), nodes=2, max_restarts=1)
    launchpad.wait(launchpad.launch(job, 1))
    folder = launchpad.folder(AttemptRef(job.id, 1)) / "checkpoints"
    newest = max(folder.glob("step-*/rank-0001.pt"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    status = launchpad.wait(launchpad.launch(job, 2))
    assert status.outcome is Outcome.SUCCEEDED
    assert status.resumed_step is not None
    assert status.resumed_step < int(newest.parent.name.partition("-")[2])


def test_a_job_without_checkpoints_is_told_that_it_starts_anew(launchpad: Launchpad) -> None:
    job = launchpad.job("import os\nassert os.environ['TORCHELASTIC_RESTART_COUNT'] != '0'")
    assert launchpad.wait(launchpad.launch(job, 1)).outcome is Outcome.FAILED
    second = launchpad.launch(job, 2)
    assert launchpad.wait(second).resumed_step is None
    assert any("starts at step 0" in text for text in notices(launchpad, second))
