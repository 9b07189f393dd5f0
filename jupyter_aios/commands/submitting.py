"""From packed code and options to a job: checks first, then bytes, then the submission."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import MAX_RANKS_PER_NODE, Backend, JobSpec, Resources
from jupyter_aios.core.units import MILLI, format_bytes
from jupyter_aios.errors import InputError
from jupyter_aios.training.packing.environment import environment_for_job
from jupyter_aios.widgets.text.table import Table, Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.client import Client
    from jupyter_aios.commands.options import TrainOptions
    from jupyter_aios.core.entities import Job, ManifestEntry, Node
    from jupyter_aios.core.ports import LaunchPlan
    from jupyter_aios.training.packing.bundle import Packed


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
    )


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
    _upload(client, packed)
    return client.submit(spec)


def plan(client: Client, packed: Packed, spec: JobSpec) -> Text:
    """Return the plan of a job that is not submitted, as text."""
    _upload(client, packed)
    return plan_text(client.dry_run(spec), packed, spec)


def _upload(client: Client, packed: Packed) -> None:
    for blob in client.missing_blobs(packed.blobs):
        client.put_blob(blob, packed.blobs[blob])


def plan_text(plan: LaunchPlan, packed: Packed, spec: JobSpec) -> Text:
    """Return what would be started: ranks, their variables, and what travels."""
    how = f"launcher {plan.launcher.value}, backend {plan.backend.value}"
    lines = [f"{plan.name}: {len(plan.ranks)} ranks, {how}; nothing was started"]
    lines += [f"interpreter  {plan.interpreter}", f"folder       {plan.cwd}"]
    for rank in plan.ranks:
        threads = "1 thread" if rank.threads == 1 else f"{rank.threads} threads"
        lines.append(f"rank {rank.rank} on {rank.node}, {threads}")
    # What every rank has of the plan beyond what it has of the notebook.
    common = set(plan.ranks[0].environment).intersection(*(r.environment for r in plan.ranks))
    sets = sorted(common | set(plan.environment) - set(spec.environment))
    lines.append("sets         " + " ".join(f"{name}={value}" for name, value in sets))
    lines.append("inherits     " + " ".join(name for name, _ in spec.environment))
    total = format_bytes(sum(len(data) for data in packed.blobs.values()))
    lines += [f"travels      {total}", repr(manifest_table(plan.code.manifest))]
    return Text("\n".join(lines))


def manifest_table(manifest: Sequence[ManifestEntry]) -> Table[ManifestRow]:
    """Return what travels with a job: name, how, size and why."""
    columns = (("NAME", "name"), ("HOW", "how"), ("SIZE", "size"), ("WHY", "why"))
    return Table(tuple(map(ManifestRow, manifest)), columns, "nothing of the notebook")


class ManifestRow:
    """A manifest entry with its size as people read it."""

    def __init__(self, entry: ManifestEntry) -> None:
        self.name = entry.name
        self.how = entry.how
        self.why = entry.why
        self.size = format_bytes(entry.size_bytes) if entry.size_bytes else ""
