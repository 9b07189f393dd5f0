"""Jobs for tests: valid as they are, and every field can be another."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

from jupyter_aios.core.entities import (
    BlobId,
    Code,
    CodeKind,
    Job,
    JobId,
    JobSpec,
    Resources,
    SourceFile,
    UserId,
)
from jupyter_aios.core.states import JobState


def example_spec(**changes: Any) -> JobSpec:  # noqa: ANN401 - any field of JobSpec
    """Return a spec of one rank that runs a script.

    Example:
        >>> example_spec(nodes=2, ranks_per_node=4).world_size
        8

    """
    blob = BlobId("0" * 64)
    spec = JobSpec(
        name="train-1",
        code=Code(kind=CodeKind.SCRIPT, files=(SourceFile("train.py", blob, "train.py"),)),
        nodes=1,
        ranks_per_node=1,
        resources=Resources(cpu_milli=1000),
        interpreter=sys.executable,
        cwd="/",
    )
    return dataclasses.replace(spec, **changes)


def example_job(
    job_id: str = "20261123-231502-a1b2c3",
    *,
    owner: str = "ada",
    submitted_at: float = 1000.0,
    **changes: Any,  # noqa: ANN401 - any field of JobSpec
) -> Job:
    """Return a queued job; `changes` are fields of its spec.

    Example:
        >>> example_job(name="mnist").name
        'mnist'

    """
    return Job(
        id=JobId(job_id),
        owner=UserId(owner),
        spec=example_spec(**changes),
        state=JobState.QUEUED,
        submitted_at=submitted_at,
        reason="submitted",
    )
