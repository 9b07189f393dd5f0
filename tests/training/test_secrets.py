"""Secrets reach the ranks in memory, and nothing else of the job has them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import html
import json
import os
import random
import string
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psutil
import pytest

import jupyter_aios as aios
from jupyter_aios.core.entities import (
    Allocation,
    BlobId,
    Code,
    CodeKind,
    Launcher,
    NodeId,
    Placement,
    SecretUse,
    SourceFile,
)
from jupyter_aios.core.events import EventKind
from jupyter_aios.core.ports import AttemptRef, Outcome
from jupyter_aios.core.secrets import Secret
from jupyter_aios.errors import InputError, StateError
from jupyter_aios.training import bootstrap, secrets
from jupyter_aios.training.journal import Journal, JournalReader, read_json
from tests.kept.ranks import Kept
from tests.launching import Launchpad, eventually

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jupyter_aios.core.entities import Job

SHARED_MEMORY = "/dev/shm"  # noqa: S108 - looked into, not written to
both_launchers = pytest.mark.parametrize("launcher", list(Launcher))

SHOWN = ("cmdline", "environ")
"""What anybody of the same user reads of a process."""
IMPORTS = """\
import hashlib, os, sys
import jupyter_aios as aios
def show(name):
    print(name, hashlib.sha256(aios.secret(name, binary=True)).hexdigest())
"""


def job_with(pad: Launchpad, source: str, uses: Iterable[SecretUse], **spec: Any) -> Job:
    job = pad.job(IMPORTS + source, **spec)
    return replace(job, spec=replace(job.spec, secrets=tuple(uses)))


def launch(
    pad: Launchpad, job: Job, values: Mapping[str, bytes | str], attempt: int = 1
) -> AttemptRef:
    places = Allocation(tuple(Placement(i, NodeId(f"v{i}")) for i in range(job.spec.nodes)))
    handed = {name: Secret(value) for name, value in values.items()}
    pad.engine.launch(pad.engine.plan(job, places, attempt), handed)
    return AttemptRef(job.id, attempt)


def run(pad: Launchpad, source: str, values: Mapping[str, bytes | str], **spec: Any) -> AttemptRef:
    return launch(pad, job_with(pad, source, map(SecretUse, values), **spec), values)


def told_hash(name: str, value: bytes | str) -> str:
    raw = value.encode() if isinstance(value, str) else value
    return f"{name} {hashlib.sha256(raw).hexdigest()}"


def fresh(prefix: str = "token") -> str:
    return f"{prefix}-{os.urandom(16).hex()}"


def traces(values: Mapping[str, bytes | str], where: Iterable[tuple[str, bytes]]) -> list[str]:
    """Return where any secret is found, in any of the spellings that people know."""
    needles: dict[bytes, str] = {}
    for name, value in values.items():
        core = (value.encode() if isinstance(value, str) else value).strip()
        # Also the beginning of a long one, which something may have cut.
        found = [core, core[:200], core.hex().encode(), core.hex().upper().encode()]
        found += [line for line in core.splitlines() if b"-----" not in line]
        found += [base64.b64encode(core)[:-4], base64.urlsafe_b64encode(core)[:-4]]
        found += [base64.b64encode(b"u:" + core)[4:-4], repr(core)[2:-1].encode()]
        found += [quote(core, safe="").encode()]
        if b"\0" not in core:
            text = core.decode("utf-8", "replace")
            found += [json.dumps(text)[1:-1].encode(), html.escape(text).encode()]
        needles |= {needle: name for needle in found if len(needle) >= 6}
    return [
        f"{name} in {place}"
        for place, content in where
        for needle, name in needles.items()
        if needle in content
    ]


def files_of(pad: Launchpad, ref: AttemptRef) -> list[tuple[str, bytes]]:
    folder = pad.home / "jobs" / ref.job_id
    return [(str(path), path.read_bytes()) for path in folder.rglob("*") if path.is_file()]


def told(pad: Launchpad, ref: AttemptRef) -> list[tuple[str, bytes]]:
    """Return the job's events as a client sees them, and its files."""
    events = pad.events(ref)
    words = [("events", json.dumps([e.data for e in events], ensure_ascii=False).encode())]
    words += [("output", pad.printed(ref, rank).encode()) for rank in {e.rank or 0 for e in events}]
    return [*words, ("status", repr(pad.engine.status(ref)).encode()), *files_of(pad, ref)]


def processes_of(pad: Launchpad, ref: AttemptRef) -> list[psutil.Process]:
    agent = psutil.Process(read_json(pad.folder(ref) / "agent.json")["pid"])
    return [agent, *agent.children(recursive=True)]


# ------------------------------------------------------------------- what the code sees of it


@both_launchers
def test_the_ranks_have_their_secrets_and_no_process_shows_them(
    launchpad: Launchpad, launcher: Launcher, tmp_path: Path
) -> None:
    values: dict[str, bytes | str] = {"TOKEN": fresh(), "KEY": os.urandom(40)}
    values["WIDE"] = fresh("schlüßel-漢字")
    wait = "import time\nprint('ready', flush=True)\nwhile not os.path.exists('go'):\n"
    wait += "    time.sleep(0.01)\n"
    uses = [SecretUse("TOKEN"), SecretUse("KEY"), SecretUse("WIDE", "WIDE_ONE")]
    source = (
        "for name in ('TOKEN', 'KEY', 'WIDE'):\n    show(name)\n"
        + wait
        + (
            "print(os.environ['WIDE_ONE'] == aios.secret('WIDE'))\n"
            "print([n for n, v in os.environ.items() if v == aios.secret('TOKEN')])\n"
        )
    )
    job = job_with(launchpad, source, uses, nodes=2, launcher=launcher, cwd=str(tmp_path))
    ref = launch(launchpad, job, values)

    def are_ready() -> bool:
        return all("ready" in launchpad.printed(ref, rank) for rank in range(2))

    eventually(are_ready, "the ranks are ready")
    seen, holders = [], []
    for process in [*processes_of(launchpad, ref), *psutil.Process().children(recursive=True)]:
        proc = Path("/proc", str(process.pid))
        shown = [(f"{name} of {process}", (proc / name).read_bytes()) for name in SHOWN]
        seen += shown
        if any("aios-secrets" in str(fd.readlink()) for fd in (proc / "fd").iterdir()):
            holders.append(process.cmdline())
    # The zygote and its like, the agent, the ranks. Elastic has it for ranks that it starts.
    assert len(seen) >= 2 * 4
    assert [words for words in holders if "jupyter_aios.training.elastic" not in words] == []
    assert traces(values, seen) == []
    tmp_path.joinpath("go").touch()
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    hashes = [told_hash(name, value) for name, value in values.items()]
    for rank in range(2):
        assert launchpad.printed(ref, rank).splitlines() == [*hashes, "ready", "True", "[]"]
    assert traces(values, told(launchpad, ref)) == []
    plan = read_json(launchpad.folder(ref) / "plan.json")
    assert [use["name"] for use in plan["secrets"]] == ["TOKEN", "KEY", "WIDE"]


@both_launchers
def test_the_bundle_is_closed_in_ranks_and_their_agent(
    launchpad: Launchpad, launcher: Launcher
) -> None:
    source = """
held = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in ("self", os.getppid())
        for fd in os.listdir(f"/proc/{pid}/fd") if os.path.exists(f"/proc/{pid}/fd/{fd}")]
print([one for one in held if "aios-secrets" in one])
print(repr(sys.stdin.read()), repr(os.read(0, 10)), os.path.realpath("/proc/self/fd/0"))
import subprocess
child = "import os; print(sorted(os.listdir('/proc/self/fd'))[:3], os.read(0, 10))"
subprocess.run([sys.executable, "-c", child])
"""
    ref = run(launchpad, source, {"TOKEN": fresh()}, launcher=launcher)
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED, launchpad.printed(ref)
    held, empty, child = launchpad.printed(ref).splitlines()
    # Elastic, between an agent and its ranks, holds it for those that it has not started yet.
    assert held == ("[]" if launcher is Launcher.WARM else "['/memfd:aios-secrets (deleted)']")
    assert empty == "'' b'' /dev/null"
    assert child == "['0', '1', '2'] b''"


def test_a_variable_that_was_asked_for_is_handed_on_and_only_that(launchpad: Launchpad) -> None:
    values = {"TOKEN": fresh(), "OTHER": fresh()}
    child = "import os, hashlib; print('TOKEN', hashlib.sha256(os.environb[b'T']).hexdigest())"
    source = f"""
import subprocess
subprocess.run([sys.executable, "-c", {child!r}])
with open("/proc/self/environ", "rb") as file:
    print(aios.secret("TOKEN").encode() in file.read())
subprocess.run("env", stdout=sys.stdout)
"""
    job = job_with(launchpad, source, [SecretUse("TOKEN", "T"), SecretUse("OTHER")])
    ref = launch(launchpad, job, values)
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED
    lines = launchpad.printed(ref).splitlines()
    assert lines[:2] == [told_hash("TOKEN", values["TOKEN"]), "False"]
    assert "T=•••TOKEN•••" in lines
    assert "OTHER" not in launchpad.printed(ref)


def test_a_process_that_a_rank_forks_has_its_secrets_and_one_that_it_starts_has_not(
    launchpad: Launchpad,
) -> None:
    value = fresh()
    source = """
import subprocess
sys.stdout.flush()
if (pid := os.fork()) == 0:
    show("TOKEN")
    sys.stdout.flush()
    os._exit(0)
os.waitpid(pid, 0)
ask = "import jupyter_aios as aios; aios.secret('TOKEN')"
done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
print(done.stderr.splitlines()[-2:])
"""
    ref = run(launchpad, source, {"TOKEN": value})
    assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED, launchpad.printed(ref)
    mine, its = launchpad.printed(ref).splitlines()
    assert mine == told_hash("TOKEN", value)
    assert "only there in a job" in its


def test_each_attempt_gets_a_delivery_of_its_own(launchpad: Launchpad) -> None:
    old, new = fresh("old"), fresh("new")
    source = "show('TOKEN')\nprint(aios.secret('TOKEN'))\nsys.exit(3)\n"
    job = job_with(launchpad, source, [SecretUse("TOKEN")])
    for attempt, value in enumerate((old, new), 1):
        ref = launch(launchpad, job, {"TOKEN": value}, attempt)
        assert launchpad.wait(ref).outcome is Outcome.FAILED
    lines = launchpad.printed(ref).splitlines()
    shown = "•••TOKEN•••"
    assert lines == [told_hash("TOKEN", old), shown, told_hash("TOKEN", new), shown]


def test_launches_that_wait_for_one_warm_process_get_each_their_own(launchpad: Launchpad) -> None:
    # A variable that nobody has used yet: the requests are there before the zygote reads.
    environment = {"OMP_NUM_THREADS": "1", "TORCH_OF_THIS_TEST": "1"}
    source = """
held = [os.readlink(f"/proc/{pid}/fd/{fd}") for pid in (os.getpid(), os.getppid())
        for fd in os.listdir(f"/proc/{pid}/fd") if os.path.exists(f"/proc/{pid}/fd/{fd}")]
print([one for one in held if "aios-secrets" in one])
"""
    given = [{"TOKEN": fresh()}, {}, {"TOKEN": fresh()}, {"TOKEN": "x" * 40_000}]
    refs = []
    for values in given:
        ask = "show('TOKEN')\n" if values else "print('none')\n"
        refs.append(run(launchpad, ask + source, values, environment=environment))
    for ref, values in zip(refs, given, strict=True):
        assert launchpad.wait(ref).outcome is Outcome.SUCCEEDED, launchpad.printed(ref)
        first = told_hash("TOKEN", values["TOKEN"]) if values else "none"
        assert launchpad.printed(ref).splitlines() == [first, "[]"]


def test_what_is_not_there_is_told_with_what_is(launchpad: Launchpad) -> None:
    source = """
for ask in (lambda: aios.secret("TOKN"), lambda: aios.secret("BINARY")):
    try:
        ask()
    except aios.AiosError as error:
        print(type(error).__name__, error)
"""
    ref = run(launchpad, source, {"TOKEN": fresh(), "BINARY": b"\xff" * 9})
    launchpad.wait(ref)
    assert launchpad.printed(ref).splitlines() == [
        "UnknownNameError no secret of this job is named 'TOKN'",
        "hint: did you mean TOKEN?",
        "InputError the secret BINARY is no text",
        "hint: aios.secret('BINARY', binary=True)",
    ]
    ref = launchpad.run(IMPORTS + "aios.secret('TOKEN')\n")
    failure = launchpad.wait(ref).failure
    assert failure is not None
    assert failure.kind == "UnknownNameError"
    assert "start it with --secret TOKEN" in failure.message


def test_outside_of_a_job_there_are_no_secrets() -> None:
    with pytest.raises(StateError, match="only there in a job") as caught:
        aios.secret("TOKEN")
    assert caught.value.hint == "%%aios_train --secret TOKEN"


# ----------------------------------------------------------- what the pieces promise by themselves


def test_a_record_shows_no_secret(tmp_path: Path) -> None:
    delivery = secrets.Delivery.of({"TOKEN": Secret("something\nwith lines")})
    journal = Journal(tmp_path / "rank-0000.events", delivery.redaction)
    journal.record(EventKind.METRICS, step=1, metrics={"loss of something": 1.0})
    journal.record(EventKind.NOTICE, text="it is something\nwith lines!")
    journal.close()
    first, second = (f.json() for f in JournalReader(tmp_path / "rank-0000.events").read())
    assert first == {"step": 1, "metrics": {"loss of •••TOKEN•••": 1.0}}
    assert second == {"text": "it is •••TOKEN•••!"}


def test_an_error_is_redacted_before_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    value = os.urandom(30_000).hex()
    monkeypatch.setattr(secrets, "_delivery", secrets.Delivery.of({"LARGE": Secret(value)}))
    code = Code(CodeKind.CELL, (SourceFile("cell.py", BlobId("0" * 64), "Cell In[3]"),))
    shown = bootstrap._describe(ValueError(f"no: {value}"), code, Path("/nowhere"))  # noqa: SLF001
    assert shown["message"] == "no: •••LARGE•••"
    assert shown["traceback"] == "ValueError: no: •••LARGE•••"


# --------------------------------------------------------------------------- what others can see

CORES = """
import ctypes, resource
print(resource.getrlimit(resource.RLIMIT_CORE))
print(open("/proc/self/coredump_filter").read().strip())
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@both_launchers
def test_a_crash_writes_no_memory_of_a_rank_with_secrets(
    launchpad: Launchpad, launcher: Launcher
) -> None:
    ref = run(launchpad, CORES, {"TOKEN": fresh()}, launcher=launcher)
    launchpad.wait(ref)
    # The last: the doctor and the person's own debugger may look into the rank.
    assert launchpad.printed(ref).splitlines() == ["(0, 0)", "00000000", "1"]


def test_nobody_looks_into_an_agent_that_has_secrets() -> None:
    program = """
import ctypes
from jupyter_aios.core.secrets import Secret
from jupyter_aios.training import agent, secrets
prctl = ctypes.CDLL(None).prctl
import os
empty = os.open("/dev/null", os.O_RDONLY)
print(agent._receive(None).secrets, agent._receive(empty).secrets, prctl(3, 0, 0, 0, 0))
with secrets.bundle({"TOKEN": Secret("something")}) as bundle:
    print(agent._receive(os.dup(bundle)).secrets["TOKEN"].reveal(), prctl(3, 0, 0, 0, 0))
"""
    asked = [sys.executable, "-c", program]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["{} {} 1", "b'something' 0"]


def test_a_bundle_is_sealed_closed_by_an_exec_and_has_no_name() -> None:
    with secrets.bundle({"TOKEN": Secret("something")}) as descriptor:
        assert descriptor is not None
        assert not os.get_inheritable(descriptor)
        for change in (
            lambda: os.write(descriptor, b"{}"),
            lambda: os.pwrite(descriptor, b"{}", 0),
            lambda: os.ftruncate(descriptor, 0),
            lambda: os.ftruncate(descriptor, 1000),
        ):
            with pytest.raises(PermissionError):
                change()
        delivery = secrets.open_bundle(descriptor)
    assert delivery.secrets == {"TOKEN": Secret("something")}
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(descriptor)


def test_without_memfd_shared_memory_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir(SHARED_MEMORY))
    monkeypatch.delattr(os, "memfd_create")
    handed = {"BINARY": Secret(bytes(range(256)) * 200), "TOKEN": Secret("something")}
    with secrets.bundle(handed) as descriptor:
        assert descriptor is not None
        assert not os.get_inheritable(descriptor)
        assert {name for name in set(os.listdir(SHARED_MEMORY)) - before if "aios" in name} == set()
        for _ in range(2):  # several ranks read the same
            assert secrets.open_bundle(descriptor).secrets == handed
    with secrets.bundle({}) as descriptor:
        assert descriptor is None


def test_what_cannot_be_handed_over_is_told_at_once_and_without_a_value() -> None:
    handed = {"A": Secret(b"one\0two"), "B": Secret("something"), "C": Secret("else")}
    with pytest.raises(InputError) as caught:
        secrets.chosen([SecretUse("A", "VARIABLE"), SecretUse("C")], handed)
    told_of = str(caught.value)
    assert "2 faults: B is handed over" in told_of
    assert "A holds a zero byte" in told_of
    assert "something" not in told_of
    assert "two" not in told_of
    assert secrets.chosen([SecretUse("C", "VARIABLE"), SecretUse("SSH")], {"C": handed["C"]})


# ------------------------------------------------------------------------ what it may print of it


def twenty_secrets() -> dict[str, bytes | str]:
    """Return secrets as people have them, drawn anew."""
    draw = random.Random(os.urandom(8))
    pem = base64.encodebytes(draw.randbytes(400)).decode()
    key = f"-----BEGIN PRIVATE KEY-----\n{pem}-----END PRIVATE KEY-----\n"
    return {
        "HEX": draw.randbytes(20).hex(),
        "BASE64": base64.b64encode(draw.randbytes(33)).decode(),
        "HF": "hf_" + base64.b32encode(draw.randbytes(20)).decode(),
        "JWT": ".".join(base64.urlsafe_b64encode(draw.randbytes(30)).decode() for _ in "abc"),
        "PASSWORD": f"c0rrect hörse+{draw.randrange(10**6)}/%?&=battery",
        "QUOTES": f"""it's "{draw.randrange(10**9)}" \\n and \\'so\\' <on> & on""",
        "UMLAUTS": f"schlüßel-{draw.randrange(10**9)}-漢字",
        "EMOJI": f"🔑🗝{draw.randrange(10**9)}🔒",
        "SIX": "".join(draw.choices(string.ascii_letters, k=6)),
        "SAME": "z" * draw.randint(8, 40),
        "SPACES": f"  with spaces {draw.randrange(10**9)} around  ",
        "NEWLINE": f"from-a-file-{draw.randrange(10**9)}\n",
        "DSN": f"postgresql://ada:{draw.randbytes(8).hex()}@db.example.org:5432/runs",
        "PEM": key,
        "CRLF": key.replace("\n", "\r\n").replace("PRIVATE", "DSA PRIVATE"),
        "ACCOUNT": json.dumps({"id": draw.randrange(10**9), "private_key": key[::-1]}, indent=2),
        "ESCAPES": f"\x1b[31m{draw.randrange(10**9)}\x1b[0m\ttab",
        "BINARY": bytes(draw.randrange(1, 256) for _ in range(48)),
        "LARGE": base64.b64encode(draw.randbytes(49_000)).decode(),
        "LINES": base64.encodebytes(draw.randbytes(47_000)).decode(),
    }


BLAB = """
import base64, html, json, subprocess, urllib.parse
def ways(raw):
    yield from (raw, raw.strip(), repr(raw).encode())
    yield from (raw.hex().encode(), raw.hex().upper().encode())
    yield from (base64.b64encode(raw), base64.urlsafe_b64encode(raw), base64.encodebytes(raw))
    yield from (base64.b64encode(b"u:" + raw), base64.b64encode(b"1" + raw + b"2"))
    yield from (urllib.parse.quote(raw, safe="").encode(), urllib.parse.quote(raw).encode())
    yield urllib.parse.quote_plus(raw).encode()
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return
    yield from (json.dumps({"a": text}).encode(), json.dumps(text, ensure_ascii=False).encode())
    yield from (repr([text, "'"]).encode(), ascii(text).encode(), html.escape(text).encode())

def in_pieces(descriptor, data):
    for at in range(0, len(data), max(len(data) // 3, 1)):
        os.write(descriptor, data[at : at + max(len(data) // 3, 1)])

everything = ""
for name in NAMES:
    raw = aios.secret(name, binary=True)
    for way in ways(raw):
        sys.stdout.flush()
        in_pieces(1, way + b"\\n")
        in_pieces(2, b"error: " + way + b"\\n")
        for at in range(0, len(way), max(len(way) // 2, 1)):
            sys.stdout.buffer.write(way[at : at + max(len(way) // 2, 1)])
            sys.stdout.flush()
        print()
    subprocess.run(["cat"], input=b"child: " + raw + b"\\n")
    text = raw.decode("latin-1" if name == "BINARY" else "utf-8")
    everything += text + "\\n"
    aios.log(**{f"loss {text}": 1.0})
print("still here")
raise RuntimeError("with " + everything) from ValueError(everything)
"""


@both_launchers
def test_nothing_that_a_job_tells_holds_one_of_twenty_secrets(
    launchpad: Launchpad, launcher: Launcher
) -> None:
    values = twenty_secrets()
    source = BLAB.replace("NAMES", repr(list(values)))
    ref = run(launchpad, source, values, launcher=launcher)
    status = launchpad.wait(ref)
    assert status.failure is not None
    assert status.failure.kind == "RuntimeError"
    printed = launchpad.printed(ref)
    assert "still here\n" in printed
    assert "�" not in printed.replace("•••BINARY•••", "")
    for name in values:
        assert f"•••{name}•••" in printed, name
    assert "with •••HEX•••\n•••BASE64•••" in status.failure.message
    assert traces(values, told(launchpad, ref)) == []


def test_a_rank_that_is_killed_while_it_prints_shows_no_half(launchpad: Launchpad) -> None:
    values = {"LARGE": base64.b64encode(os.urandom(9000)).decode()}
    source = """
os.write(1, b"it is " + aios.secret("LARGE").encode()[:5000])
os.kill(os.getpid(), 9)
"""
    ref = run(launchpad, source, values)
    launchpad.wait(ref)
    assert launchpad.printed(ref) == "it is •••LARGE•••"


def test_an_output_beyond_its_limit_is_redacted_too(launchpad: Launchpad) -> None:
    values = {"TOKEN": fresh()}
    source = "for number in range(4000):\n    print(number, aios.secret('TOKEN'))\n"
    ref = run(launchpad, source, values, log_limit_bytes=10_000)
    launchpad.wait(ref)
    assert launchpad.printed(ref).endswith("3999 •••TOKEN•••\n")
    assert traces(values, told(launchpad, ref)) == []


def test_a_prompt_is_not_held_back(launchpad: Launchpad, tmp_path: Path) -> None:
    source = """
import time
os.write(1, b"token? [y/n] ")
while not os.path.exists("go"):
    time.sleep(0.01)
"""
    ref = run(launchpad, source, {"TOKEN": fresh()}, cwd=str(tmp_path))
    eventually(lambda: launchpad.printed(ref) == "token? [y/n] ", "the prompt is there")
    tmp_path.joinpath("go").touch()
    launchpad.wait(ref)


def test_what_is_too_short_to_be_found_is_told_once(launchpad: Launchpad) -> None:
    values = {"PIN": "1234", "TOKEN": fresh()}
    ref = run(launchpad, "print(aios.secret('PIN'))\n", values, nodes=2)
    launchpad.wait(ref)
    events = launchpad.events(ref)
    notices = [e.data["text"] for e in events if e.kind is EventKind.NOTICE and e.data]
    assert notices == ["PIN has less than 6 bytes and is shown where it is printed"]


def test_kept_ranks_keep_their_secrets_and_go_on_hiding_them(launchpad: Launchpad) -> None:
    values = {"TOKEN": "begin-" + os.urandom(9).hex(), "LARGE": "x" + os.urandom(20_000).hex()}
    source = "first = aios.secret('TOKEN')\n"
    job = job_with(launchpad, source, map(SecretUse, values), keep_idle_s=30.0)
    kept = Kept(launchpad, launch(launchpad, job, values), world_size=1)
    kept.wait_idle()
    assert kept.values("aios.secret('TOKEN') == first", [0]) == ["True"]
    assert kept.values("first", [0]) == ["'•••TOKEN•••'"]
    assert kept.values("aios.secret('LARGE') + '!'", [0]) == ["'•••LARGE•••!'"]
    told_of = kept.run("raise ValueError(f'{first} is wrong')", [0])[0]
    assert told_of["message"] == "•••TOKEN••• is wrong"
    # What ends with the beginning of a secret belongs to the cell that printed it.
    before = launchpad.printed(kept.ref)
    kept.run("os.write(1, b'the begin')", [0])
    assert launchpad.printed(kept.ref) == before + "the begin"
    kept.end()
    assert traces(values, told(launchpad, kept.ref)) == []


def test_hexadecimal_and_base64_agree_with_the_standard_library() -> None:
    """The traces above look for what these give; a typo there would find nothing."""
    value = "secret-value-of-this-test"
    printed = [binascii.hexlify(value.encode()), base64.b64encode(b"u:" + value.encode())]
    assert traces({"A": value}, [("here", printed[0])]) == ["A in here"]
    assert traces({"A": value}, [("here", b"Basic " + printed[1])]) == ["A in here"]
    assert traces({"A": value}, [("here", textwrap.fill(value, 10).encode())]) == []
