"""MB/s at which a job's output is searched for its secrets, against two ways in a line of Python.

The text is what jobs print: progress, numbers, warnings, tracebacks and package lists of this very
interpreter, records of JSON, base64. It goes through in chunks of 128 KiB, as an agent reads it,
and holds a secret in every megabyte or so. The peers look for the same spellings, each with what
Python has: `re.sub` with an alternation, and `bytes.replace` for one spelling after the other. They
find nothing across the borders of chunks.
"""

from __future__ import annotations

import base64
import json
import random
import re
import sys
import time
import traceback
import warnings
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from benchmarks._measure import Report, alternate, arguments
from jupyter_aios.core.redaction import Redaction
from jupyter_aios.core.secrets import Secret
from jupyter_aios.core.spellings import spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CHUNK_BYTES = 2**17
MARK = "•••secret•••".encode()


def log_text(size_bytes: int, secrets: Sequence[str]) -> bytes:
    """Return what jobs print, with one of the secrets in every megabyte or so."""
    draw = random.Random(0)  # noqa: S311 - a text, no key
    kinds = list(_lines(draw))
    parts, size, due = [], 0, 2**19
    while size < size_bytes:
        line = draw.choice(kinds)()
        if size > due:
            line += f"Authorization: Bearer {draw.choice(secrets)}\n"
            due += 2**20
        parts.append(line.encode())
        size += len(parts[-1])
    return b"".join(parts)


def _lines(draw: random.Random) -> Iterator[Callable[[], str]]:
    packages = [f"{one.name}=={one.version} {one.locate_file('')}" for one in distributions()]
    told = [_traceback(source) for source in ("1 / 0", "{}['key']", "import nothing", "int('x')")]
    warned = warnings.formatwarning(
        "lr_scheduler before optimizer", UserWarning, json.__file__, 231
    )
    number = draw.random
    for _ in range(12):  # of most lines there are many
        yield (
            lambda: (
                f"step {draw.randrange(10**6)}  loss {number():.4f}  accuracy {number():.4f}"
                f"  lr {number() * 1e-3:.2e}  {number() * 900:.1f} samples/s\n"
            )
        )
        yield lambda: f"\rEpoch 3: {draw.randrange(100)}%|{'█' * 9}    | [00:12<00:31, 3.1it/s]"
        yield lambda: f"2026-11-25 12:00:{draw.randrange(60):02} INFO trainer: epoch done\n"
    yield lambda: draw.choice(told)
    yield lambda: warned
    yield lambda: draw.choice(packages) + "\n"
    yield lambda: json.dumps({"step": draw.randrange(999), "grad": [number() for _ in range(9)]})
    yield lambda: base64.b64encode(draw.randbytes(300)).decode() + "\n"
    yield lambda: f"checkpoint {draw.randbytes(32).hex()} /home/ada/runs/{draw.randrange(999)}/\n"


def _traceback(source: str) -> str:
    try:
        exec(source)  # noqa: S102 - one of the four lines above
    except Exception:  # noqa: BLE001 - whatever it is, it is shown
        return traceback.format_exc()
    sys.exit(f"{source} raised nothing")


def secrets_of(draw: random.Random, count: int, *, are_short: bool) -> list[str]:
    """Return tokens of 24 to 40 characters, or passwords of 8 to 14."""
    sizes = (8, 14) if are_short else (24, 40)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
    return ["".join(draw.choices(letters, k=draw.randint(*sizes))) for _ in range(count)]


def speed(text: bytes, redact: Callable[[bytes], bytes]) -> float:
    """Return MB/s of one pass."""
    chunks = [text[at : at + CHUNK_BYTES] for at in range(0, len(text), CHUNK_BYTES)]
    begun = time.perf_counter()
    for chunk in chunks:
        redact(chunk)
    return len(text) / (time.perf_counter() - begun) / 1e6


def by_pattern(found: Sequence[bytes]) -> Callable[[bytes], bytes]:
    """Return the peer that looks for all spellings with one regular expression."""
    pattern = re.compile(b"|".join(map(re.escape, sorted(found, key=len, reverse=True))))
    return lambda chunk: pattern.sub(MARK, chunk)


def by_replacing(found: Sequence[bytes]) -> Callable[[bytes], bytes]:
    """Return the peer that replaces one spelling after the other."""

    def redact(chunk: bytes) -> bytes:
        for spelling in found:
            chunk = chunk.replace(spelling, MARK)
        return chunk

    return redact


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__.partition("\n")[0] if __doc__ else "")
    report = Report("redaction", "MB/s", "higher", options.json)
    pairs = 5 if options.quick else 15
    figures = {}
    for count in (5, 50):
        for are_short in (False, True):
            draw = random.Random(count)  # noqa: S311 - they protect nothing
            secrets = secrets_of(draw, count, are_short=are_short)
            redaction = Redaction([(f"S{n}", Secret(one)) for n, one in enumerate(secrets)])
            found = list(dict.fromkeys(way for one in secrets for way in spellings(one.encode())))
            long, short = log_text(2**23, secrets), log_text(2**20, secrets)
            shown = redaction.redact(long)
            assert not [one for one in found if one in shown]
            assert shown.count("•••".encode()) >= 2 * 7
            for name, peer in (("re.sub", by_pattern), ("replace", by_replacing)):
                what = f"{count} {'passwords' if are_short else 'tokens'}, {name}"
                other = peer(found)
                figures[what] = report.pair(
                    f"{what}, {len(found)} spellings",
                    *alternate(
                        pairs,
                        lambda: speed(long, redaction.stream().feed),  # noqa: B023 - run at once
                        lambda: speed(short, other),  # noqa: B023
                    ),
                )
    report.extra["others"] = figures
    report.finish(figures["5 tokens, replace"])


if __name__ == "__main__":
    main()
