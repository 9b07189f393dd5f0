"""What a rank is: torchrun's environment, a real program, no notebook."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch
from numpy.random import RandomState

from jupyter_aios.core.entities import Backend, Launcher
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptPhase, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from tests.launching import Launchpad

ELASTIC_NAMES = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
    "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT",
    "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS",
    "TORCHELASTIC_USE_AGENT_STORE", "OMP_NUM_THREADS",
)  # fmt: skip

SHOW_ENVIRONMENT = "import json, os; print(json.dumps(dict(os.environ)))"


def test_both_launchers_give_a_rank_the_environment_of_torchrun(launchpad: Launchpad) -> None:
    seen = {}
    for launcher in Launcher:
        ref = launchpad.run(SHOW_ENVIRONMENT, nodes=2, ranks_per_node=2, launcher=launcher)
        assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
        seen[launcher] = [json.loads(launchpad.printed(ref, rank)) for rank in range(4)]
    own = {"MASTER_PORT", "TORCHELASTIC_RUN_ID"}
    for warm, elastic in zip(seen[Launcher.WARM], seen[Launcher.TORCHRUN], strict=True):
        for name in ELASTIC_NAMES:
            assert name in warm, name
            assert name in own or warm[name] == elastic[name], name
    places = [(e["RANK"], e["LOCAL_RANK"], e["GROUP_RANK"]) for e in seen[Launcher.WARM]]
    assert places == [("0", "0", "0"), ("1", "1", "0"), ("2", "0", "1"), ("3", "1", "1")]


def test_ranks_do_not_share_a_random_generator(launchpad: Launchpad) -> None:
    for source in ("numpy.random.rand()", "random.random()", "torch.rand(1).item()"):
        ref = launchpad.run(f"import random, numpy, torch; print({source})", nodes=4)
        launchpad.wait(ref)
        assert len({launchpad.printed(ref, rank) for rank in range(4)}) == 4, source


@pytest.mark.parametrize("launcher", list(Launcher))
def test_a_rank_begins_with_the_seed_and_its_number(
    launchpad: Launchpad, launcher: Launcher
) -> None:
    source = textwrap.dedent("""\
        import random, numpy, torch
        print([random.random(), numpy.random.rand(), torch.rand(1).item()])
        print(list({"red", "green", "blue", "white", "black"}))
    """)
    ref = launchpad.run(source, nodes=2, seed=2**32 - 1, launcher=launcher)
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    words = set()
    for rank in range(2):
        own = 2**32 - 1 + rank
        random_numbers, some_words = launchpad.printed(ref, rank).splitlines()
        first = torch.rand(1, generator=torch.Generator().manual_seed(own)).item()
        drawn = [random.Random(own).random(), RandomState(own % 2**32).rand(), first]
        assert json.loads(random_numbers) == drawn
        words.add(some_words)
    assert len(words) == 1
    # As with any other hash, the order could be the same by chance; it is not, for these words.
    fixed = {"PYTHONHASHSEED": "0"}
    asked = [sys.executable, "-c", source.splitlines()[2]]
    said = subprocess.run(asked, env=fixed, capture_output=True, text=True, check=True).stdout
    assert words == {said.strip()}


def test_a_rank_looks_like_a_program(launchpad: Launchpad) -> None:
    ref = launchpad.run(
        textwrap.dedent("""\
            import __main__, inspect, os, pickle, sys
            def own(): "own"
            class Own: pass
            print(__name__, __main__.own is own, hasattr(sys, "ps1"), os.getcwd(), sys.argv[1:])
            copy = pickle.loads(pickle.dumps(Own()))
            print(inspect.getsource(own).strip(), copy.__class__ is Own)
            print(sys.stdin.read() == "", os.isatty(0))
        """),
        argv=("--epochs", "3"),
    )
    status = launchpad.wait(ref)
    assert status.outcome is Outcome.SUCCEEDED, status.failure
    assert launchpad.printed(ref).splitlines() == [
        f"__main__ True False {launchpad.home} ['--epochs', '3']",
        'def own(): "own" True',
        "True False",
    ]


def test_what_native_code_and_children_print_arrives_too(launchpad: Launchpad) -> None:
    source = "import os, subprocess; os.write(2, b'raw\\n'); subprocess.run(['echo', 'child'])"
    ref = launchpad.run(source)
    launchpad.wait(ref)
    assert sorted(launchpad.printed(ref).split()) == ["child", "raw"]


def test_atexit_handlers_run_and_open_files_are_flushed(launchpad: Launchpad) -> None:
    folder = launchpad.home
    status = launchpad.finish(
        textwrap.dedent(f"""\
            import atexit, threading, time
            kept = open({str(folder / "kept.txt")!r}, "w"); kept.write("kept")
            raw = open({str(folder / "raw.bin")!r}, "wb"); raw.write(b"raw")
            atexit.register(lambda: open({str(folder / "last.txt")!r}, "w").write("last"))
            def finish():
                time.sleep(0.2)
                open({str(folder / "thread.txt")!r}, "w").write("thread")
            threading.Thread(target=finish).start()
        """)
    )
    assert status.outcome is Outcome.SUCCEEDED
    names = ("kept.txt", "raw.bin", "last.txt", "thread.txt")
    assert [(folder / name).read_text() for name in names] == ["kept", "raw", "last", "thread"]


@pytest.mark.parametrize("call", ["input('name? ')", "breakpoint()", "import pdb; pdb.set_trace()"])
def test_asking_the_keyboard_is_an_error_with_a_hint(launchpad: Launchpad, call: str) -> None:
    status = launchpad.finish(call)
    assert status.outcome is Outcome.FAILED
    assert status.failure is not None
    assert "ranks have no keyboard" in status.failure.message
    assert "hint:" in status.failure.message


@pytest.mark.parametrize("call", ["'nccl'", "backend='nccl'", "'cuda:nccl'"])
def test_backend_gloo_overrides_a_literal_nccl_and_says_so(launchpad: Launchpad, call: str) -> None:
    source = f"import torch.distributed as d; d.init_process_group({call}); print(d.get_backend())"
    ref = launchpad.run(source, backend=Backend.GLOO, nodes=2)
    launchpad.wait(ref)
    assert launchpad.printed(ref) == "gloo\n"
    notices = [
        e.data["text"] for e in launchpad.events(ref) if e.kind is EventKind.NOTICE and e.data
    ]
    assert any("overrides" in text for text in notices)


def test_nccl_without_a_gpu_is_an_error_with_the_hint(launchpad: Launchpad) -> None:
    status = launchpad.finish("import torch.distributed as d; d.init_process_group('nccl')")
    assert status.failure is not None
    assert "--backend gloo" in status.failure.message


@pytest.mark.parametrize(
    ("source", "code"),
    [("import sys; sys.exit()", 0), ("import sys; sys.exit(3)", 3), ("exit('words')", 1)],
)
def test_exit_codes_are_those_of_a_program(launchpad: Launchpad, source: str, code: int) -> None:
    status = launchpad.finish("import sys\n" + source.replace("exit('", "sys.exit('"))
    assert [item.code for item in status.exits] == [code]


def test_running_out_of_memory_is_named(launchpad: Launchpad) -> None:
    from jupyter_aios.core.entities import Resources

    status = launchpad.finish(
        "kept = []\nwhile True: kept.append(bytearray(10**7))",
        resources=Resources(memory_bytes=2 * 10**9),
    )
    assert status.failure is not None
    assert status.failure.kind == "MemoryError"
    assert "out of memory" in status.failure.message


def test_metrics_and_steps_are_recorded(launchpad: Launchpad) -> None:
    ref = launchpad.run(
        textwrap.dedent("""\
            import torch
            from jupyter_aios.training import context as aios
            model = torch.nn.Linear(2, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            loss = model(torch.ones(1, 2)).sum()
            loss.backward(); optimizer.step()
            aios.log(loss=loss, broken=float("nan"), accuracy=torch.tensor(0.5))
        """)
    )
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    data = {e.kind: e.data for e in launchpad.events(ref)}
    assert data[EventKind.STEP] == {"step": 1}
    metrics = data[EventKind.METRICS]
    assert metrics is not None
    assert metrics["step"] == 1
    assert metrics["metrics"]["broken"] == "nan"
    assert metrics["metrics"]["accuracy"] == 0.5
    assert launchpad.printed(ref) == ""


def test_logging_something_else_than_a_number_is_an_error(launchpad: Launchpad) -> None:
    status = launchpad.finish(
        "import torch\nfrom jupyter_aios.training import context\ncontext.log(loss=torch.ones(3))"
    )
    assert status.failure is not None
    assert "takes a number" in status.failure.message


def test_two_launches_with_other_rank_counts_share_the_warm_process(launchpad: Launchpad) -> None:
    launchpad.finish("pass")
    assert [launchpad.finish("pass", nodes=n).start for n in (1, 2, 4)] == ["warm"] * 3


def test_a_changed_import_variable_starts_cold_and_says_which(launchpad: Launchpad) -> None:
    launchpad.finish("pass")
    status = launchpad.finish("pass", environment={"MKL_TEST_ONLY": "1"})
    assert status.start == "cold: changed MKL_TEST_ONLY"
    assert launchpad.finish("pass", environment={"MKL_TEST_ONLY": "1"}).start == "warm"


def test_an_interpreter_without_torch_fails_with_a_hint(
    launchpad: Launchpad, tmp_path: Path
) -> None:
    broken = tmp_path / "torch"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('half installed')")
    job = launchpad.job("pass", environment={"PYTHONPATH": f"{tmp_path}:."})
    ref = launchpad.launch(job)
    status = launchpad.wait(ref)
    assert status.phase is AttemptPhase.ENDED
    assert status.failure is not None
    assert "half installed" in status.failure.message
    assert "%aios doctor" in status.failure.message
