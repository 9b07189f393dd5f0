"""Jobs that hang, jobs that fail of a disagreement, and jobs that are only slow.

Each is drawn at random: which rank, at which step, how many ranks, DDP or plain collectives.
Capital words in the programs are filled in.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

START = """\
import os, signal, subprocess, sys, threading, queue, time, socket, fcntl, tempfile
import multiprocessing as mp
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, Dataset
def now():
    print("now", flush=True)
"""
RAW = """\
dist.init_process_group("gloo")
rank = dist.get_rank()
def step_of(step):
    dist.all_reduce(torch.ones(10))  # seen
    dist.broadcast(torch.ones(3), 0)  # seen
"""
WITH_DDP = """\
dist.init_process_group("gloo")
rank = dist.get_rank()
model = DDP(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
def step_of(step):
    loss = model(torch.ones(2, 4)).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()  # seen
"""
DRAWN, NO_GROUP = "drawn", ""


@dataclass(frozen=True)
class Fault:
    """A kind of job that will not end well, and what has to be said of it."""

    body: str
    """The culprit calls `now()` just before; the line that has to be named is marked `# here`."""
    kinds: tuple[str, ...]
    setup: str = DRAWN
    words: Mapping[str, tuple[str, ...]] | None = None
    """Capital word → what it may be."""
    worlds: tuple[int, ...] = (3, 4)
    culprit: int | None = None
    is_stopped: bool = False
    """The test stops the culprit by SIGSTOP when it has said now."""
    fails: bool = False
    """It does not hang but fails, and the message has to say it."""


FAULTS: Mapping[str, Fault] = {
    "frozen": Fault(
        """
        for step in range(10**9):
            step_of(step)
            time.sleep(0.002)
            if rank == RANK and step == AT: now()
        """,
        ("frozen",),
        is_stopped=True,
    ),
    "a collective skipped": Fault(
        """
        for step in range(10**9):
            if rank == RANK and step == AT: now()
            if not (rank == RANK and step == AT):
                dist.all_reduce(torch.ones(10))
            OTHER  # here
        """,
        ("mismatch",),
        RAW,
        {
            "OTHER": (
                "dist.barrier()",
                "dist.broadcast(torch.ones(5), 0)",
                "dist.all_gather([torch.ones(3) for _ in range(WORLD)], torch.ones(3))",
            )
        },
    ),
    "a backward skipped": Fault(
        """
        for step in range(10**9):
            if rank == RANK and step == AT:
                now()
                loss = model(torch.ones(2, 4)).sum()
            else:
                step_of(step)
            dist.all_reduce(torch.ones(1))  # here
        """,
        ("mismatch",),
        WITH_DDP,
    ),
    "a collective skipped by one of two": Fault(
        """
        for step in range(10**9):
            if rank == RANK and step == AT: now()
            if not (rank == RANK and step == AT):
                dist.all_reduce(torch.ones(10))
            dist.barrier()  # here
        """,
        ("mismatch",),
        RAW,
        worlds=(2,),
    ),
    "shapes": Fault(
        """
        for step in range(10**9):
            step_of(step)
            if rank == RANK and step == AT: now()
            x = torch.ones(SIZE if rank == RANK and step == AT else 10)
            CALL  # here
        """,
        ("shapes",),
        words={"SIZE": ("5", "20", "200_000"), "CALL": ("dist.all_reduce(x)", "dist.reduce(x, 0)")},
        fails=True,
    ),
    "a worker waits for a lock": Fault(
        """
        PREPARE
        class Numbers(Dataset):
            def __len__(self):
                return 10**6
            def __getitem__(self, index):
                if rank == RANK and index == 2 * AT:
                    now()
                    WAIT  # here
                return torch.ones(3)
        for step, batch in enumerate(DataLoader(Numbers(), batch_size=2, num_workers=WORKERS)):
            step_of(step)
        """,
        ("loader",),
        words={
            "PREPARE": (
                "lock = threading.Lock(); lock.acquire(); wait = lock.acquire",
                "lock = mp.Lock(); lock.acquire(); wait = lock.acquire",
                "wait = mp.Queue().get",
                "wait = threading.Event().wait",
            ),
            "WAIT": ("wait()",),
            "WORKERS": ("1", "2"),
        },
    ),
    "a worker is stopped": Fault(
        """
        class Numbers(Dataset):
            def __len__(self):
                return 10**6
            def __getitem__(self, index):
                if rank == RANK and index == 2 * AT:
                    now()
                    os.kill(os.getpid(), signal.SIGSTOP)
                return torch.ones(3)
        loader = DataLoader(Numbers(), batch_size=2, num_workers=1)
        for step, batch in enumerate(loader):  # here
            step_of(step)
        """,
        ("loader",),
    ),
    "a lock": Fault(
        """
        lock = threading.Lock(); lock.acquire()
        box, done, pipe = queue.Queue(), threading.Event(), mp.Pipe(duplex=False)
        thread = threading.Thread(target=done.wait, daemon=True); thread.start()
        for step in range(10**9):
            step_of(step)
            if rank == RANK and step == AT:
                now()
                WAIT  # here
        """,
        ("lock",),
        words={
            "WAIT": (
                "lock.acquire()",
                "box.get()",
                "done.wait()",
                "thread.join()",
                "pipe[0].recv()",
            )
        },
    ),
    "a barrier under a condition": Fault(
        """
        for step in range(10**9):
            step_of(step)
            if rank == 0 and step == AT:
                now()
                dist.barrier()  # here
        """,
        ("mismatch",),
        culprit=0,
    ),
    "groups in another order": Fault(
        """
        first, second = dist.new_group(), dist.new_group()
        for step in range(10**9):
            groups = [first, second]
            if rank == RANK and step == AT:
                now()
                groups.reverse()
            for group in groups:
                dist.all_reduce(torch.ones(4), group=group)  # here
        """,
        ("order",),
        RAW,
    ),
    "ended before the group was made": Fault(
        """
        if int(os.environ["rank".upper()]) == RANK:
            now()
            sys.exit(0)
        dist.init_process_group("gloo")  # here
        """,
        ("ended",),
        NO_GROUP,
    ),
    "ended early": Fault(
        """
        for step in range(10**9):
            if rank == RANK and step == AT:
                now()
                break
            step_of(step)
        """,
        ("ended",),
        fails=True,
    ),
}


@dataclass(frozen=True)
class Hang:
    """One job drawn of a kind of fault."""

    fault: Fault
    source: str
    world: int
    culprit: int

    @property
    def line(self) -> str:
        """Return `line N` of the marked line, empty where none is."""
        lines = self.source.splitlines()
        return next((f"line {i}" for i, text in enumerate(lines, 1) if "# here" in text), "")

    @property
    def seen(self) -> list[str]:
        """Return the places where a rank can have been seen last: `Cell In[3], line N`."""
        lines = enumerate(self.source.splitlines(), 1)
        return [f"last seen at Cell In[3], line {i} " for i, text in lines if "# seen" in text]


def draw(name: str, random_: random.Random) -> Hang:
    """Return a job of a kind of fault: any rank, any step, any of its variants."""
    fault = FAULTS[name]
    world = random_.choice(fault.worlds)
    rank = random_.randrange(world) if fault.culprit is None else fault.culprit
    setup = random_.choice([RAW, WITH_DDP]) if fault.setup is DRAWN else fault.setup
    words = {word: random_.choice(choices) for word, choices in (fault.words or {}).items()}
    words |= {"WORLD": str(world), "RANK": str(rank), "AT": str(random_.randrange(3, 30))}
    return Hang(fault, _fill(setup, fault.body, words), world, rank)


def _fill(setup: str, body: str, words: Mapping[str, str]) -> str:
    text = setup + textwrap.dedent(body)
    for word, value in words.items():
        text = text.replace(word, value)
    return START + text


# One rank does this for SECONDS at a step, the others wait for it in their next collective.
SLOW: Mapping[str, str] = {
    "validation": """
        end = time.time() + SECONDS
        with torch.no_grad():
            while time.time() < end: torch.ones(200, 200) @ torch.ones(200, 200)""",
    "python": "end = time.time() + SECONDS\nwhile time.time() < end: sum(range(1000))",
    "sleep": "time.sleep(SECONDS)",
    "naps": "for _ in range(SECONDS * 2): time.sleep(0.5)",
    "process": "subprocess.run(['sleep', 'SECONDS'], check=True)",
    "process output": "subprocess.check_output(['sh', '-c', 'sleep SECONDS; echo done'])",
    "fifo": """
        path = tempfile.mktemp(); os.mkfifo(path)
        writer = subprocess.Popen(['sh', '-c', f'sleep SECONDS; echo x > {path}'],
                                  start_new_session=True)
        open(path).read(); writer.wait()""",
    "network": """
        server = socket.create_server(("127.0.0.1", 0)); port = server.getsockname()[1]
        if os.fork() == 0:
            peer, _ = server.accept(); time.sleep(SECONDS); peer.sendall(b"x"); os._exit(0)
        socket.create_connection(("127.0.0.1", port)).recv(1); os.wait()""",
    "poll": """
        import select
        a, b = socket.socketpair()
        if os.fork() == 0:
            time.sleep(SECONDS); b.sendall(b"x"); os._exit(0)
        select.select([a], [], []); os.wait()""",
    "thread": """
        thread = threading.Thread(target=time.sleep, args=(SECONDS,)); thread.start()
        thread.join()""",
    "pool of threads": """
        from concurrent.futures import ThreadPoolExecutor
        with ThreadPoolExecutor(2) as pool: list(pool.map(time.sleep, [SECONDS, SECONDS / 2]))""",
    "pool of processes": """
        with mp.get_context("fork").Pool(2) as pool: pool.map(time.sleep, [SECONDS, 1])""",
    "queue": """
        box = queue.Queue()
        def fill():
            for number in range(SECONDS): time.sleep(1); box.put(number)
        threading.Thread(target=fill, daemon=True).start()
        for _ in range(SECONDS): box.get()""",
    "timed wait": "threading.Event().wait(SECONDS)",
    "backoff in a thread": """
        pause = threading.Event()
        thread = threading.Thread(target=pause.wait, args=(SECONDS,)); thread.start()
        thread.join()""",
    "file lock": """
        path = "/tmp/aios-doctor-" + os.environ["AIOS_ATTEMPT"].replace("/", "-")
        holder = subprocess.Popen([sys.executable, "-c",
            f"import fcntl, time; f = open({path!r}, 'w'); fcntl.flock(f, 2); print(1, flush=True);"
            " time.sleep(SECONDS)"], stdout=subprocess.PIPE)
        holder.stdout.readline()
        with open(path, "w") as file: fcntl.flock(file, fcntl.LOCK_EX)
        holder.wait(); os.unlink(path)""",
    "slow worker": """
        class Slow(Dataset):
            def __len__(self): return 4
            def __getitem__(self, index):
                if index == 2: time.sleep(SECONDS)
                return torch.ones(1)
        for _ in DataLoader(Slow(), num_workers=2): pass""",
    "computing worker": """
        class Slow(Dataset):
            def __len__(self): return 4
            def __getitem__(self, index):
                end = time.time() + (SECONDS if index == 2 else 0)
                while time.time() < end: sum(range(1000))
                return torch.ones(1)
        for _ in DataLoader(Slow(), num_workers=2): pass""",
    "worker behind a lock": """
        held = mp.Lock()
        class Slow(Dataset):
            def __len__(self): return 4
            def __getitem__(self, index):
                with held: time.sleep(SECONDS / 4)
                return torch.ones(1)
        for _ in DataLoader(Slow(), num_workers=2): pass""",
    "synchronous writes": """
        end = time.time() + SECONDS
        with tempfile.NamedTemporaryFile(dir=".") as file:
            while time.time() < end:
                file.write(b"x" * 10**6); file.flush(); os.fsync(file.fileno()); file.seek(0)
                time.sleep(0.3)""",
}


def _draw(random_: random.Random) -> tuple[int, int, int, str]:
    world = random_.choice([3, 4])
    setup = random_.choice([RAW, WITH_DDP])
    return world, random_.randrange(world), random_.randrange(2, 30), setup


def slow_job(kind: str, random_: random.Random, seconds: int = 20) -> tuple[str, int]:
    """Return a healthy job in which one rank takes its time, and its number of ranks."""
    world, rank, at, setup = _draw(random_)
    act = textwrap.indent(textwrap.dedent(SLOW[kind]).strip(), " " * 8)
    body = f"""
for step in range(40):
    step_of(step)
    if rank == {rank} and step == {at}:
{act.replace("SECONDS", str(seconds))}
"""
    return START + setup + body, world


def straggler(random_: random.Random) -> tuple[str, int]:
    """Return a healthy job in which another rank is late at each step."""
    world, _, _, setup = _draw(random_)
    body = """
import random
chosen = random.Random(SEED)
for step in range(5):
    late, naps = chosen.randrange(WORLD), chosen.uniform(3, 7)
    if rank == late:
        time.sleep(naps)
    step_of(step)
"""
    return START + setup + body.replace("SEED", str(random_.random())).replace(
        "WORLD", str(world)
    ), world


def alone(random_: random.Random) -> tuple[str, int]:
    """Return ranks that have no process group and nothing to do with each other."""
    body = """
rank = int(os.environ["RANK"])
if rank == 0:
    time.sleep(20)
elif rank == 1:
    end = time.time() + 15
    while time.time() < end: sum(range(1000))
else:
    threading.Event().wait(18)
"""
    return START + body, random_.choice([3, 4])


def compiling(random_: random.Random) -> tuple[str, int]:
    """Return ranks of which one compiles first."""
    world, rank, _, _ = _draw(random_)
    body = f"""
if rank == {rank}:
    net = torch.compile(torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(12)]))
    net(torch.ones(2, 8)).sum().backward()
dist.barrier()
"""
    return START + RAW + body, world
