"""A submission: its id, its blobs, and what is wrong with it as far as its data can tell."""

from __future__ import annotations

import hashlib
import json
import re
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from jupyter_aios.core.entities import (
    MAX_NAME_LENGTH,
    MAX_NODES,
    MAX_RANKS_PER_NODE,
    JobId,
    SecretUse,
)
from jupyter_aios.core.secrets import SECRET_NAME, VARIABLE_NAME
from jupyter_aios.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyter_aios.core.entities import BlobId, Code, JobSpec

JOB_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{6,16}")
_NAME = re.compile(r"\w[\w.-]*")
_MAX_RESTARTS = 1000
_MAX_PRIORITY = 1_000_000
SEEDS = 2**32
"""Seeds are below this: numpy takes no larger ones."""


def job_id(now: float, token: str) -> JobId:
    """Return the id of a job submitted at `now`: it sorts by time; `token` is random hexadecimal.

    Example:
        >>> job_id(0.0, "a1b2c3")
        '19700101-000000-a1b2c3'

    """
    return JobId(time.strftime("%Y%m%d-%H%M%S", time.gmtime(now)) + "-" + token)


def spec_faults(spec: JobSpec) -> list[str]:
    """Return every fault of a submission, a phrase each; empty where there is none.

    An empty name is none: the controller gives one.
    """
    checks = [
        (not spec.name or _is_name(spec.name), f"--name {spec.name!r}: {_NAME_RULE}"),
        (1 <= spec.nodes <= MAX_NODES, f"--nodes {spec.nodes}: 1 to {MAX_NODES}"),
        (
            1 <= spec.ranks_per_node <= MAX_RANKS_PER_NODE,
            f"--nproc-per-node {spec.ranks_per_node}: 1 to {MAX_RANKS_PER_NODE}",
        ),
        (
            0 <= spec.max_restarts <= _MAX_RESTARTS,
            f"--max-restarts {spec.max_restarts}: 0 to {_MAX_RESTARTS}",
        ),
        (
            abs(spec.priority) <= _MAX_PRIORITY,
            f"--priority {spec.priority}: -{_MAX_PRIORITY} to {_MAX_PRIORITY}",
        ),
        (spec.timeout_s is None or spec.timeout_s > 0, f"--timeout {spec.timeout_s}: above 0"),
        (spec.seed is None or 0 <= spec.seed < SEEDS, f"--seed {spec.seed}: 0 to {SEEDS - 1}"),
        (spec.start_deadline_s > 0, f"start_deadline_s {spec.start_deadline_s}: above 0"),
        (spec.teardown_deadline_s > 0, f"teardown_deadline_s {spec.teardown_deadline_s}: above 0"),
        (spec.stall_after_s > 0, f"stall_after_s {spec.stall_after_s}: above 0"),
        (spec.pull_limit_bytes >= 0, f"pull_limit_bytes {spec.pull_limit_bytes}: 0 or more"),
        (spec.log_limit_bytes > 0, f"log_limit_bytes {spec.log_limit_bytes}: above 0"),
        (
            spec.keep_idle_s is None or spec.keep_idle_s > 0,
            f"--keep {spec.keep_idle_s}: above 0",
        ),
        (
            spec.keep_idle_s is None or spec.max_restarts == 0,
            "--keep and --max-restarts: a restarted rank has lost what it was kept for",
        ),
        (spec.interpreter.startswith("/"), f"interpreter {spec.interpreter!r}: an absolute path"),
        (spec.cwd.startswith("/"), f"cwd {spec.cwd!r}: an absolute path"),
    ]
    found = [fault for is_good, fault in checks if not is_good]
    demand = spec.resources
    amounts = (demand.cpu_milli, demand.memory_bytes, demand.disk_bytes, demand.gpu_milli)
    if min(amounts) < 0:
        found.append("--cpus, --memory and --gpus: 0 or more")
    return found + secret_faults(spec.secrets) + code_faults(spec.code)


def secret_use(text: str) -> SecretUse:
    """Return what `--secret TEXT` asks for: `NAME`, `NAME:VARIABLE`, `OWNER/NAME`.

    Example:
        >>> secret_use("ada/HF_TOKEN:HF_TOKEN")
        SecretUse(name='HF_TOKEN', variable='HF_TOKEN', owner='ada')

    Raises:
        InputError: it is none of these. What was typed is not repeated: it may be a value.

    """
    path, colon, variable = text.partition(":")
    owner, slash, name = path.rpartition("/")
    use = SecretUse(name, variable, owner)
    start = SECRET_NAME.match(path)
    if start is not None and path[start.end() :].startswith("="):
        hint = f"%aios secret set {start[0]}, which asks for it; then --secret {start[0]}"
        raise InputError(f"the value of {start[0]} must not stand on a line", hint=hint)
    faults = secret_faults([use])
    if faults or (colon and not variable) or (slash and not owner):
        what = faults[0] if faults else "there is nothing on one side of ':' or '/'"
        raise InputError(what, hint="--secret NAME, --secret NAME:VARIABLE or --secret OWNER/NAME")
    return use


def secret_faults(uses: Sequence[SecretUse]) -> list[str]:
    """Return every fault of the secrets that a job asks for, a phrase each.

    What cannot be a name is not repeated: somebody may have typed a value.
    """
    found = [] if len(uses) <= _MAX_SECRETS else [f"{len(uses)} secrets: at most {_MAX_SECRETS}"]
    owners: dict[str, str] = {}
    holders: dict[str, str] = {}
    for use in uses:
        if SECRET_NAME.fullmatch(use.name) is None:
            found.append(f"a secret's name has {_NAMES_OF_SECRETS}")
            continue
        if not use.owner.isprintable() or len(use.owner.encode()) > _OWNER_BYTES:
            found.append(f"the owner of {use.name} is no user's name")
        elif owners.setdefault(use.name, use.owner) != use.owner:
            found.append(f"two secrets are named {use.name}: a job has one of that name")
        if not use.variable:
            continue
        if VARIABLE_NAME.fullmatch(use.variable) is None:
            found.append(f"the variable for {use.name} has letters, digits and '_', no digit first")
        elif _TAKEN.fullmatch(use.variable) is not None:
            found.append(f"the variable {use.variable} is set by the launcher, not by a secret")
        elif holders.setdefault(use.variable, use.name) != use.name:
            others = f"{holders[use.variable]} and {use.name}"
            found.append(f"the variable {use.variable} is for both {others}")
    return found


def code_faults(code: Code) -> list[str]:
    """Return every fault of the code, a phrase each."""
    found = [] if code.files else ["no code to run"]
    # The files are written below the job's folder under these paths.
    return found + [
        f"code file {file.path!r}: a relative path without .."
        for file in code.files
        if not _stays_inside(file.path)
    ]


_MAX_SECRETS = 100
_OWNER_BYTES = 256
_NAMES_OF_SECRETS = "a letter, then up to 63 letters, digits, '_', '-' or '.'"
_TAKEN = re.compile(
    r"(LOCAL_|GROUP_|ROLE_)?RANK|((LOCAL|GROUP|ROLE)_)?WORLD_SIZE|ROLE_NAME|MASTER_(ADDR|PORT)"
    r"|(TORCH|AIOS_|PYTHON|LD_|DYLD_|OMP_|MKL_|OPENBLAS_|GLOO_|NCCL_)\w*|CUDA_VISIBLE_DEVICES"
    r"|PATH|HOME|SSH_AUTH_SOCK"
)
"""Variables that say where a rank is and how it starts: another value breaks it, or loads code."""
_NAME_RULE = (
    f"up to {MAX_NAME_LENGTH} letters, digits, '_', '-' and '.', beginning with a letter,"
    " digit or '_', and not like a job's id"
)


def _is_name(name: str) -> bool:
    return (
        len(name) <= MAX_NAME_LENGTH
        and _NAME.fullmatch(name) is not None
        and JOB_ID.fullmatch(name) is None
    )


def _stays_inside(path: str) -> bool:
    pure = PurePosixPath(path)
    return bool(path) and "\0" not in path and not pure.is_absolute() and ".." not in pure.parts


def blobs_of(code: Code) -> tuple[BlobId, ...]:
    """Return all blobs that the code needs, each once."""
    blobs = [file.blob for file in code.files]
    return tuple(dict.fromkeys([*blobs, *value_blobs(code)]))


def value_blobs(code: Code) -> tuple[BlobId, ...]:
    """Return the blobs that hold pickled values."""
    blobs = [code.early_values, *(file.values for file in code.files), code.values]
    return tuple(dict.fromkeys(blob for blob in blobs if blob is not None))


def code_hash(code: Code) -> str:
    """Return the SHA-256 of what runs: files and values in their order, imports, the function.

    Where the code came from (a cell's number, a file's name) is not part of it.
    """
    files = [[file.blob, list(file.definitions), file.values] for file in code.files]
    content = [code.kind.value, code.function, files, code.early_values, code.values]
    text = json.dumps([*content, sorted(map(list, code.imports))])
    return hashlib.sha256(text.encode()).hexdigest()
