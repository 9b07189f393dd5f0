"""The nouns of the system as frozen data: nodes, jobs, attempts, allocations."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NewType

from jupyter_aios.core.states import JobState

JobId = NewType("JobId", str)
NodeId = NewType("NodeId", str)
UserId = NewType("UserId", str)
BlobId = NewType("BlobId", str)
"""SHA-256 of the contents, in hexadecimal."""

MAX_NODES = 4096
MAX_VIRTUAL_NODES = 64
MAX_RANKS_PER_NODE = 1024
MAX_NAME_LENGTH = 64
MIB = 2**20


class CodeKind(str, Enum):
    """What a job runs."""

    CELL = "cell"
    SCRIPT = "script"
    FUNCTION = "function"


class Backend(str, Enum):
    """The process group's transport; `AUTO` is nccl where each rank has a GPU of its own."""

    AUTO = "auto"
    NCCL = "nccl"
    GLOO = "gloo"


class Launcher(str, Enum):
    """How the ranks come to life on a machine."""

    WARM = "warm"
    TORCHRUN = "torchrun"


class StopReason(str, Enum):
    """Why an attempt is told to end."""

    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    PREEMPTED = "preempted"


@dataclass(frozen=True)
class Resources:
    """An amount of each resource: a demand or a capacity.

    CPU and GPU are in thousandths, memory and disk in bytes.
    """

    cpu_milli: int = 0
    memory_bytes: int = 0
    disk_bytes: int = 0
    gpu_milli: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(
            cpu_milli=self.cpu_milli + other.cpu_milli,
            memory_bytes=self.memory_bytes + other.memory_bytes,
            disk_bytes=self.disk_bytes + other.disk_bytes,
            gpu_milli=self.gpu_milli + other.gpu_milli,
        )

    def fits_in(self, capacity: Resources) -> bool:
        """True where no resource exceeds `capacity`."""
        return (
            self.cpu_milli <= capacity.cpu_milli
            and self.memory_bytes <= capacity.memory_bytes
            and self.disk_bytes <= capacity.disk_bytes
            and self.gpu_milli <= capacity.gpu_milli
        )


@dataclass(frozen=True)
class Device:
    """One GPU of a node; `index` is what CUDA_VISIBLE_DEVICES calls it."""

    index: int
    model: str
    memory_bytes: int


@dataclass(frozen=True)
class Node:
    """A machine, or a declared share of one (`is_virtual`), with its capacity."""

    id: NodeId
    machine: str
    engine: str
    capacity: Resources
    devices: tuple[Device, ...] = ()
    is_virtual: bool = False
    is_drained: bool = False

    @property
    def label(self) -> str:
        """The name as screens show it; a virtual node always says that it is one."""
        return f"{self.id} (virtual)" if self.is_virtual else str(self.id)


@dataclass(frozen=True)
class SourceFile:
    """A piece of code that runs in the rank's `__main__`.

    `path` is relative to the job's code folder; `origin` is what a traceback shows
    (`Cell In[3]`, `train.py`); `original` is the file it was read from, if there is one.
    """

    path: str
    blob: BlobId
    origin: str
    original: str = ""
    definitions: tuple[str, ...] = ()
    """Which top-level definitions of the file run; empty: the whole file."""
    values: BlobId | None = None
    """Pickle of {name: value} that this piece needs while it runs: loaded just before it.

    Unlike `Code.early_values`, these are made of definitions of the pieces before this one
    (`DEFAULT = Config()` where `def train(config=DEFAULT)` follows).
    """


@dataclass(frozen=True)
class ManifestEntry:
    """One name that travels: how (`import`, `source`, `value`), how large, and why so."""

    name: str
    how: str
    size_bytes: int
    why: str


@dataclass(frozen=True)
class Code:
    """What runs as `__main__`: files in order, the last one is what was submitted."""

    kind: CodeKind
    files: tuple[SourceFile, ...]
    imports: tuple[tuple[str, str, str], ...] = ()
    """(name, module, attribute): attribute is empty for a module itself."""
    early_values: BlobId | None = None
    """Pickle of {name: value} that definitions need while they are being defined."""
    values: BlobId | None = None
    """Pickle of {name: value}, loaded when the definitions stand."""
    manifest: tuple[ManifestEntry, ...] = ()
    function: str = ""
    """For `CodeKind.FUNCTION`: the name to call."""


@dataclass(frozen=True)
class SecretUse:
    """A job's wish for a secret: its name, and the variable that it is to stand in, if any."""

    name: str
    variable: str = ""
    """Empty: by an inherited descriptor only, for `aios.secret(name)`."""
    owner: str = ""
    """Whose it is; empty: the submitter's."""

    def __str__(self) -> str:
        """Return it as it is typed after `--secret`."""
        path = f"{self.owner}/{self.name}" if self.owner else self.name
        return f"{path}:{self.variable}" if self.variable else path


@dataclass(frozen=True)
class RunRecord:
    """What makes a run repeatable, beyond the spec itself."""

    versions: tuple[tuple[str, str], ...] = ()
    """(package, version), and ("python", …)."""
    git_commit: str = ""
    """Of the working directory; empty where it is no repository."""
    git_is_dirty: bool = False
    code_hash: str = ""
    """SHA-256 over the code files and values, in their order."""
    options: str = ""
    """The options as they were typed."""
    rerun_of: str = ""
    """Id of the job that this one repeats."""


@dataclass(frozen=True)
class JobSpec:
    """Everything that a person asked for; nothing that was decided about it."""

    name: str
    code: Code
    nodes: int
    ranks_per_node: int
    resources: Resources
    """Demand per node."""
    interpreter: str
    cwd: str
    sys_path: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    argv: tuple[str, ...] = ()
    backend: Backend = Backend.AUTO
    launcher: Launcher = Launcher.WARM
    engine: str = "local"
    pull: tuple[str, ...] = ()
    pull_limit_bytes: int = 2048 * MIB
    log_limit_bytes: int = 256 * MIB
    """Per rank; what comes after it is dropped, except the end, and said so."""
    max_restarts: int = 0
    timeout_s: float | None = None
    priority: int = 0
    start_deadline_s: float = 120.0
    teardown_deadline_s: float = 30.0
    stall_after_s: float = 300.0
    autolog: bool = True
    """Whether curves are captured from the loop."""
    seed: int | None = None
    """Of the ranks' global random number generators: rank r begins with `seed + r`."""
    keep_idle_s: float | None = None
    """Not None: the ranks stay after their code with all its variables, for more cells, and are
    released when nothing ran in them for so long."""
    secrets: tuple[SecretUse, ...] = ()
    """By name: no value is ever part of a submission."""
    record: RunRecord = RunRecord()

    @property
    def world_size(self) -> int:
        """Number of ranks."""
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Placement:
    """Task `task` of a gang lies on `node` and holds `devices` there."""

    task: int
    node: NodeId
    devices: tuple[int, ...] = ()


@dataclass(frozen=True)
class Allocation:
    """The ILP's x for one gang: one placement per task, ordered by task."""

    placements: tuple[Placement, ...]

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """The node of each task, in task order."""
        return tuple(placement.node for placement in self.placements)


@dataclass(frozen=True)
class RankExit:
    """How one rank ended: exit code, or the signal that killed it, and the likely cause."""

    rank: int
    code: int
    """As `os.waitstatus_to_exitcode` gives it: negative for a signal."""
    cause: str = ""


@dataclass(frozen=True)
class Failure:
    """The first thing that went wrong in an attempt; the rest are its consequences."""

    rank: int | None
    kind: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class Attempt:
    """One start of a job."""

    job_id: JobId
    number: int
    started_at: float
    ended_at: float | None = None
    outcome: str = ""
    start: str = ""
    """`warm`, or why it was cold."""
    resumed_step: int | None = None
    exits: tuple[RankExit, ...] = ()
    failure: Failure | None = None


@dataclass(frozen=True)
class Transition:
    """One step of a job's history."""

    job_id: JobId
    old: JobState | None
    new: JobState
    at: float
    attempt: int
    reason: str


@dataclass(frozen=True)
class Job:
    """Work that somebody submitted, and what became of it."""

    id: JobId
    owner: UserId
    spec: JobSpec
    state: JobState
    submitted_at: float
    attempt: int = 0
    reason: str = ""
    """One sentence on why the job is in this state: what it waits for, why it failed."""
    started_at: float | None = None
    """When the current attempt's ranks began to run the code."""
    ended_at: float | None = None
    allocation: Allocation | None = None
    is_stalled: bool = False
    is_idle: bool = False
    """Its ranks are kept and have nothing to do. Never stored: it is what they say now."""
    attempts: tuple[Attempt, ...] = field(default=())

    @property
    def name(self) -> str:
        """The name that people type."""
        return self.spec.name
