"""What real ranks capture beyond the loss: steps, rates, samples, progress, and when."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import Outcome
from tests.curves.reading import curves, logged, notices, progress
from tests.curves.shapes import ACCUMULATION_DIVIDED, COMPILED_STEP, GAN, HEAD, PLAIN

if TYPE_CHECKING:
    from jupyter_aios.core.events import Event
    from tests.launching import Launchpad


def finish(launchpad: Launchpad, source: str, **spec: object) -> tuple[Event, ...]:
    """Run `source` to its end and return its events."""
    ref = launchpad.run(source, **spec)
    status = launchpad.wait(ref)
    assert status.outcome is Outcome.SUCCEEDED, status.failure
    return launchpad.events(ref)


def test_the_first_point_is_written_at_the_first_step(launchpad: Launchpad) -> None:
    source = PLAIN.replace("aios.log(loss=loss)", "import os; os.kill(os.getpid(), 9)")
    ref = launchpad.run(source)
    launchpad.wait(ref)
    events = launchpad.events(ref)
    assert [step for step, _ in curves(events)["loss"].points] == [1]
    assert [e.data for e in events if e.kind is EventKind.STEP] == [{"step": 1}]


def test_points_are_written_in_batches(launchpad: Launchpad) -> None:
    events = finish(launchpad, PLAIN.replace("range(2)", "range(20)"))
    records = [event for event in events if event.kind is EventKind.CURVE]
    assert [step for step, _ in curves(events)["loss"].points] == list(range(1, 201))
    assert len(records) < 30


def test_what_was_seen_before_an_error_is_written(launchpad: Launchpad) -> None:
    for last in ("raise RuntimeError('no')", "raise SystemExit(3)", "raise KeyboardInterrupt"):
        stop = f"if epoch == 1: {last}"
        ref = launchpad.run(PLAIN.replace("aios.log(loss=loss)", stop))
        launchpad.wait(ref)
        points = curves(launchpad.events(ref))["loss"].points
        assert [step for step, _ in points] == list(range(1, 12)), last


def test_two_optimizers_make_one_step_together(launchpad: Launchpad) -> None:
    events = finish(launchpad, GAN)
    steps = [e.data["step"] for e in events if e.kind is EventKind.STEP and e.data]
    assert steps[-1] == 20
    found = curves(events)
    assert found["lr (Adam 2)"].points[0] == (1, 0.01)
    assert found["lr"].points[0] == (1, 0.02)


def test_optimizers_at_two_paces_count_by_the_more_diligent(launchpad: Launchpad) -> None:
    source = GAN.replace(
        "        opt_g.zero_grad()",
        "        if opt_d.state[judge[0].bias]['step'] % 5: continue\n        opt_g.zero_grad()",
    ).replace(
        "aios.log(errD_real=errD_real, errD_fake=errD_fake, errG=errG)", "aios.log(errG=errG)"
    )
    events = finish(launchpad, source)
    found = curves(events)
    assert [step for step, _ in found["errD_real"].points] == list(range(1, 21))
    assert found["errG"].points == logged(events)["errG"]
    assert [step for step, _ in found["errG"].points] == [5, 10, 15, 20]


def test_a_learning_rate_stays_level_until_it_changes(launchpad: Launchpad) -> None:
    source = PLAIN.replace(
        "for epoch in", "schedule = torch.optim.lr_scheduler.StepLR(optimizer, 8)\nfor epoch in"
    ).replace("aios.log(loss=loss)", "schedule.step()")
    points = curves(finish(launchpad, source))["lr"].points
    by_step = dict(points)
    assert {1: 0.01, 8: 0.01, 9: 0.001, 16: 0.001, 17: 0.0001, 20: 0.0001}.items() <= {
        step: round(rate, 9) for step, rate in by_step.items()
    }.items()


def test_groups_have_a_rate_of_their_own_only_where_it_differs(launchpad: Launchpad) -> None:
    optimizer = (
        "torch.optim.SGD([{'params': model[0].weight}, {'params': model[0].bias},"
        " {'params': model[2].parameters(), 'lr': torch.tensor(0.5)}], lr=0.01)"
    )
    source = PLAIN.replace("torch.optim.SGD(model.parameters(), lr=0.01)", optimizer)
    found = curves(finish(launchpad, source))
    assert {name for name in found if name.startswith("lr")} == {"lr", "lr (group 3)"}
    assert found["lr (group 3)"].points[0] == (1, 0.5)


def test_progress_is_inferred_from_the_loops_and_says_so(launchpad: Launchpad) -> None:
    assert progress(finish(launchpad, PLAIN)) == [(20, "2 epochs × 10 batches")]
    # 4, 4 and 2 of 10 batches: 3 steps an epoch.
    assert progress(finish(launchpad, ACCUMULATION_DIVIDED)) == [
        (6, "2 epochs × 10 batches, 4 micro-batches a step")
    ]
    function = HEAD + (
        "def train(loader):\n    for x, y in loader:\n        loss = criterion(model(x), y)\n"
        "        loss.backward()\n        optimizer.step()\n"
        "epochs = 3\nfor epoch in range(epochs):\n    train(loader)\n"
    )
    assert progress(finish(launchpad, function)) == [(30, "3 epochs × 10 batches")]


def test_progress_of_an_endless_loop_is_unknown_and_says_why(launchpad: Launchpad) -> None:
    source = HEAD + (
        "while True:\n    loss = criterion(model(inputs), targets)\n    loss.backward()\n"
        "    optimizer.step()\n    if loss < 1e9:\n        break\n"
    )
    told = progress(finish(launchpad, source))
    assert told == [(0, "the while loop at Cell In[3], line 14 has no known end")]


def test_progress_of_losses_in_nested_loops_is_told_once(launchpad: Launchpad) -> None:
    source = HEAD + (
        "for x, y in loader:\n    for inner in range(5):\n        often = criterion(model(x), y)\n"
        "        often.backward()\n        optimizer.step()\n"
        "    seldom = criterion(model(x), y)\n    seldom.backward()\n"
    )
    assert progress(finish(launchpad, source)) == [(50, "10 batches × 5 inners")]


def test_progress_grows_when_a_second_loop_follows(launchpad: Launchpad) -> None:
    loop = PLAIN.removeprefix(HEAD)
    told = progress(finish(launchpad, PLAIN + loop))
    assert [total for total, _ in told] == [20, 40]


def test_samples_are_those_of_the_loader_that_trains(launchpad: Launchpad) -> None:
    evaluation = (
        "    for x, y in torch.utils.data.DataLoader(inputs.repeat(500, 1), batch_size=1000):\n"
        "        pass\n    import time; since = time.monotonic()\n"
        "    while time.monotonic() < since + 0.11: pass\n"
    ).replace("for x, y in", "for x in")
    source = PLAIN.replace("range(2)", "range(3)") + evaluation
    curve = curves(finish(launchpad, source))["samples/s"]
    assert curve.how == "samples of DataLoader's batches"
    # 40 samples an epoch, which takes more than 0.11 s; evaluation goes through 20,000.
    assert all(0 < rate < 40 / 0.11 * 3 for _, rate in curve.points)


def test_without_a_loader_the_batch_is_inferred_and_labelled(launchpad: Launchpad) -> None:
    source = HEAD + (
        "for step in range(30):\n    loss = criterion(model(inputs), targets)\n"
        "    optimizer.zero_grad()\n    loss.backward()\n    optimizer.step()\n"
    )
    curve = curves(finish(launchpad, source))["samples/s"]
    assert curve.how == "inferred: the model was called with 40 a step"


def test_workers_and_children_write_nothing(launchpad: Launchpad) -> None:
    source = PLAIN.replace("batch_size=4,", "batch_size=4, num_workers=2,") + (
        "import os\npid = os.fork()\nif pid == 0:\n    childs = criterion(model(inputs), targets)\n"
        "    childs.backward(); optimizer.step(); aios.log(child=1.0)\n    os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    events = finish(launchpad, source)
    assert "child" not in logged(events)
    assert curves(events)["loss"].points == logged(events)["loss"]


def test_a_compiled_step_has_no_graph_break_more(launchpad: Launchpad) -> None:
    counters = (
        "\nfrom torch._dynamo.utils import counters\n"
        "print('BREAKS', sum(counters['graph_break'].values()),"
        " 'RECOMPILES', sum(counters['recompiles'].values()),"
        " 'GRAPHS', counters['stats']['unique_graphs'],"
        " 'CALLS', counters['stats']['calls_captured'])\n"
        "print('FRAMES', counters['frames']['total'])\n"
    )
    printed = {}
    for autolog in (True, False):
        ref = launchpad.run(COMPILED_STEP + counters, autolog=autolog)
        assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
        printed[autolog] = launchpad.printed(ref)
    ours, peer = (re.findall(r"(BREAKS.*)\n", printed[a])[0] for a in (True, False))
    assert ours == peer
    ours, peer = (int(re.findall(r"FRAMES (\d+)", printed[a])[0]) for a in (True, False))
    assert ours <= peer


def test_a_backward_that_fails_leaves_no_point(launchpad: Launchpad) -> None:
    source = PLAIN.replace(
        "        loss.backward()\n",
        "        loss.backward()\n"
        "        try: loss.backward()\n        except RuntimeError: pass\n",
    )
    events = finish(launchpad, source)
    assert {n for n in curves(events) if n.startswith("loss")} == {"loss (line 18)"}
    assert curves(events)["loss (line 18)"].points == logged(events)["loss"]


def test_a_loss_whose_gradient_is_thrown_away_is_no_part_of_the_step(launchpad: Launchpad) -> None:
    source = HEAD + (
        "for number, (x, y) in enumerate(loader):\n    optimizer.zero_grad()\n"
        "    loss = criterion(model(x), y)\n    loss.backward()\n"
        "    if number in (4, 7): continue\n"
        "    optimizer.step()\n    aios.log(loss=loss)\n"
    )
    events = finish(launchpad, source)
    assert curves(events)["loss"].points == logged(events)["loss"]
    assert "micro" not in curves(events)["loss"].how


def test_losses_of_one_name_are_told_apart(launchpad: Launchpad) -> None:
    source = HEAD + (
        "def warm(x, y):\n    loss = criterion(model(x), y)\n    loss.backward()\n"
        "def train(x, y):\n    loss = criterion(model(x), y) * 2\n    loss.backward()\n"
        "for x, y in loader:\n    warm(x, y); optimizer.step()\n"
        "for x, y in loader:\n    train(x, y); optimizer.step()\n"
    )
    found = curves(finish(launchpad, source))
    assert [step for step, _ in found["loss (warm)"].points] == list(range(1, 11))
    assert [step for step, _ in found["loss (train)"].points] == list(range(11, 21))


def test_a_library_between_shows_the_line_of_the_person(launchpad: Launchpad) -> None:
    source = HEAD + (
        "import sys, types\nlibrary = types.ModuleType('accelerating')\n"
        "code = compile('def backward(loss, scale):\\n    (loss / scale).backward()\\n',"
        " '/x/site-packages/accelerating.py', 'exec')\nexec(code, library.__dict__)\n"
        "for x, y in loader:\n    loss = criterion(model(x), y)\n    optimizer.zero_grad()\n"
        "    library.backward(loss, 1)\n    optimizer.step()\n    aios.log(loss=loss)\n"
    )
    events = finish(launchpad, source)
    assert curves(events)["loss"].points == logged(events)["loss"]
    how = curves(events)["loss"].how
    assert re.fullmatch(r"backward\(\) in \w+, called at Cell In\[3\], line 21", how), how


def test_values_that_are_not_finite_are_text(launchpad: Launchpad) -> None:
    source = PLAIN.replace("criterion(model(x), y)", "criterion(model(x), y) * float('inf')")
    values = [value for _, value in curves(finish(launchpad, source))["loss"].points]
    assert set(values) <= {"inf", "nan"}


def test_a_program_that_trains_nothing_is_not_nagged(launchpad: Launchpad) -> None:
    assert notices(finish(launchpad, "import torch\nprint(torch.ones(2).sum())\n")) == []


def test_capture_that_fails_ends_and_the_training_goes_on(launchpad: Launchpad) -> None:
    source = PLAIN.replace(
        "for epoch in",
        "from jupyter_aios.training.curves import sites\n"
        "def broken(*_): raise ValueError('a bug of ours')\n"
        "sites.Sites.at = broken\nfor epoch in",
    )
    events = finish(launchpad, source)
    assert len(logged(events)["loss"]) == 20
    told = notices(events)
    assert len(told) == 1
    assert told[0].startswith("curves are no longer captured (ValueError: a bug of ours)")
