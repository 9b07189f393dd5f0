"""From packed code and options to a job: checks first, then bytes, then the submission."""

from __future__ import annotations

import os
import secrets
import sys
import textwrap
from typing import TYPE_CHECKING

from jupyter_aios.commands.record import GitQuestion, begin_record, record_table, with_git
from jupyter_aios.core.entities import MAX_RANKS_PER_NODE, Backend, JobSpec, Resources
from jupyter_aios.core.units import MILLI, format_bytes
from jupyter_aios.errors import InputError
from jupyter_aios.training.packing.environment import environment_for_job
from jupyter_aios.widgets.text.table import Table, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jupyter_aios.client import Client
    from jupyter_aios.commands.options import TrainOptions
    from jupyter_aios.commands.place import Place
    from jupyter_aios.core.entities import Job, ManifestEntry, Node, SecretUse
    from jupyter_aios.core.ports import LaunchPlan
    from jupyter_aios.training.packing.bundle import Packed

_CROWD = 4
"""More ranks than this for each CPU are worth a word."""
_WIDTH = 100
"""What a plan is never wider than, but for paths."""
_NAME_WIDTH = 40
_BESIDE_NAME = len("  source  1023.99 MiB  ")


def launch(packed: Packed, options: TrainOptions, place: Place, argv: Sequence[str] = ()) -> object:
    """Submit what was packed and show it to its end; return its plan, or the job.

    Raises:
        AiosError: nothing was started, or the job failed.

    """
    nodes = place.client.nodes()
    spec = make_spec(packed, options, nodes, argv)
    warn(packed)
    if options.dry_run:
        return plan(place.client, packed, spec)
    job = send(place.client, packed, spec)
    warn_of_crowd(spec, nodes)
    if options.detach:
        return place.handle(job)
    return place.follow(job, on_interrupt=options.on_interrupt, view=options.view)


def make_spec(
    packed: Packed, options: TrainOptions, nodes: Sequence[Node], argv: Sequence[str] = ()
) -> JobSpec:
    """Return the submission that the options mean on these nodes.

    Raises:
        InputError: nccl where not every rank can have a GPU of its own.

    """
    gpus, ranks = _gpus_and_ranks(options, nodes)
    _check_backend(packed, options, has_gpus=gpus >= ranks * MILLI)
    return JobSpec(
        name=options.name,
        code=packed.code,
        nodes=options.nodes,
        ranks_per_node=ranks,
        resources=Resources(
            cpu_milli=options.cpu_milli, memory_bytes=options.memory_bytes, gpu_milli=gpus
        ),
        interpreter=sys.executable,
        cwd=os.getcwd(),  # noqa: PTH109 - Path.cwd() says the same in more words
        sys_path=tuple(dict.fromkeys(entry for entry in sys.path if entry)),
        environment=environment_for_job(os.environ),
        argv=tuple(argv),
        backend=options.backend,
        launcher=options.launcher,
        pull=options.pull,
        pull_limit_bytes=options.pull_limit_bytes,
        log_limit_bytes=options.log_limit_bytes,
        max_restarts=options.max_restarts,
        timeout_s=options.timeout_s,
        priority=options.priority,
        keep_idle_s=options.keep_idle_s,
        seed=draw_seed() if options.seed is None else options.seed,
        secrets=options.secrets,
        autolog=options.autolog,
        record=begin_record(packed, options.typed),
    )


def draw_seed() -> int:
    """Return a seed for a job that was given none, so that it too can be repeated."""
    return secrets.randbelow(10**9)  # few enough digits to be typed


def warn(packed: Packed) -> None:
    """Say what is allowed and probably not meant."""
    if packed.warning:
        sys.stderr.write(f"{packed.warning}; see what and why with --dry-run\n")
    for notice in packed.notices:
        sys.stderr.write(f"notice: {notice}\n")


def warn_of_crowd(spec: JobSpec, nodes: Sequence[Node]) -> None:
    """Say that ranks share processors, of a job that was taken: a refusal says enough."""
    cpus = max(round(sum(node.capacity.cpu_milli for node in nodes) / MILLI), 1)
    if spec.world_size > _CROWD * cpus:
        shared = "1 CPU" if cpus == 1 else f"{cpus} CPUs"
        sys.stderr.write(f"{spec.world_size} ranks will take turns on {shared}\n")


def _gpus_and_ranks(options: TrainOptions, nodes: Sequence[Node]) -> tuple[int, int]:
    """Return milli-GPUs and ranks per node; unsaid, each rank gets a GPU where that is possible."""
    if options.gpu_milli is not None:
        whole = min(max(options.gpu_milli // MILLI, 1), MAX_RANKS_PER_NODE)
        return options.gpu_milli, options.ranks_per_node or whole
    ranks = options.ranks_per_node or 1
    fitting = [node for node in nodes if node.capacity.gpu_milli >= ranks * MILLI]
    wants_gpus = options.backend is not Backend.GLOO and len(fitting) >= options.nodes
    return (ranks * MILLI if wants_gpus else 0), ranks


def _check_backend(packed: Packed, options: TrainOptions, *, has_gpus: bool) -> None:
    if has_gpus or options.backend is Backend.GLOO:
        return
    if options.backend is Backend.NCCL:
        raise InputError(
            "--backend nccl needs a GPU for each rank, and there are not as many",
            hint="--backend gloo",
        )
    if packed.literal_backend and packed.literal_backend[0] == Backend.NCCL.value:
        raise InputError(
            f"line {packed.literal_backend[1]} asks for nccl, which needs a GPU for each rank,"
            " and there are not as many",
            hint="--backend gloo overrides the line",
        )


def send(client: Client, packed: Packed, spec: JobSpec) -> Job:
    """Send what the controller does not have yet, submit, and return the job."""
    return client.submit(_ship(client, packed, spec))


def plan(client: Client, packed: Packed, spec: JobSpec) -> Text:
    """Return the plan of a job that is not submitted, as text."""
    spec = _ship(client, packed, spec)
    return plan_text(client.dry_run(spec), packed, spec)


def _ship(client: Client, packed: Packed, spec: JobSpec) -> JobSpec:
    """Send what is not there yet; meanwhile git answers, and the spec is returned with that."""
    with GitQuestion(spec.cwd) as question:
        for blob in client.missing_blobs(packed.blobs):
            client.put_blob(blob, packed.blobs[blob])
        return with_git(spec, question)


def plan_text(plan: LaunchPlan, packed: Packed, spec: JobSpec) -> Text:
    """Return what would be started: ranks, their variables, and what travels."""
    how = f"launcher {plan.launcher.value}, backend {_meant(plan)}"
    lines = [f"{plan.name}: {len(plan.ranks)} ranks, {how}; nothing was started"]
    lines += [f"interpreter  {plan.interpreter}", f"folder       {plan.cwd}"]
    for rank in plan.ranks:
        threads = "1 thread" if rank.threads == 1 else f"{rank.threads} threads"
        lines.append(f"rank {rank.rank} on {rank.node}, {threads}")
    # What every rank has of the plan beyond what it has of the notebook.
    common = set(plan.ranks[0].environment).intersection(*(r.environment for r in plan.ranks))
    sets = sorted(common | set(plan.environment) - set(spec.environment))
    lines += _wrapped("sets", (f"{name}={value}" for name, value in sets))
    lines += _wrapped("inherits", (name for name, _ in spec.environment))
    lines += [f"secret       {use}: {_delivery(use)}" for use in plan.secrets]
    lines += [f"{row.what:<12} {row.value}" for row in record_table(spec)]
    total = format_bytes(sum(len(data) for data in packed.blobs.values()))
    lines += [f"travels      {total}", repr(manifest_table(plan.code.manifest))]
    return Text("\n".join(lines))


def _delivery(use: SecretUse) -> str:
    """Return how a secret comes to the code."""
    asked = f'aios.secret("{use.name}")'
    return f"{asked}, and the variable {use.variable} of the ranks" if use.variable else asked


def _wrapped(what: str, words: Iterable[str]) -> list[str]:
    return textwrap.wrap(
        f"{what:<12} {' '.join(words)}", _WIDTH, subsequent_indent=" " * 13,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _meant(plan: LaunchPlan) -> str:
    """Return the backend, with what `auto` comes to on these nodes."""
    if plan.backend is not Backend.AUTO:
        return f"{plan.backend.value}"
    has_gpus = all(dict(rank.environment).get("CUDA_VISIBLE_DEVICES") for rank in plan.ranks)
    return "auto (nccl)" if has_gpus else "auto (gloo)"


def manifest_table(manifest: Sequence[ManifestEntry]) -> Table[ManifestRow]:
    """Return what travels with a job: name, how, size and why, in lines of at most 100 columns."""
    columns = (("NAME", "name"), ("HOW", "how"), ("SIZE", "size"), ("WHY", "why"))
    rows = tuple(map(ManifestRow, manifest))
    before = max((len(row.name) for row in rows), default=0) + _BESIDE_NAME
    for row in rows:
        row.why = _shortened(row.why, _WIDTH - before)
    return Table(rows, columns, "nothing of the notebook")


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


class ManifestRow:
    """A manifest entry with its size as people read it."""

    def __init__(self, entry: ManifestEntry) -> None:
        self.name = _shortened(entry.name, _NAME_WIDTH)
        self.how = entry.how
        self.why = entry.why
        self.size = format_bytes(entry.size_bytes) if entry.size_bytes else ""
