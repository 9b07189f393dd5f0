"""Takes a job's own secrets out of what it prints, however they are spelled and cut.

It guards against accidents (a printed header, a traceback, a dumped configuration), not against a
job that wants to tell: that one can always spell a secret in a way that nobody foresaw.

Found is what `spellings` lists; what it leaves out is not found, and neither is a part of a line.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

from jupyter_aios.core.spellings import MIN_BYTES, spellings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jupyter_aios.core.secrets import Secret

_MARK = "•••"
_MOST_FOUND_ALONE = 12
"""Up to this many short patterns are cheaper to look for one by one than by short grams."""
_SIEVES: tuple[tuple[int, Literal["I", "Q"], int], ...] = (
    (39, "Q", 32),
    (23, "Q", 16),
    (15, "Q", 8),
    (7, "I", 4),
)
"""Shortest pattern, format of a gram, bytes from one gram to the next. The wider, the faster."""
_ALONE_BYTES = _SIEVES[-2][0]
"""Shorter patterns would make the sieve of all others slow."""
_GRAM_BYTES = {"Q": 8, "I": 4}
_HEAD_BYTES = 8


def split_at_character(data: bytes) -> tuple[bytes, bytes]:
    """Return (`data` without an unfinished UTF-8 character at its end, that beginning)."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:  # noqa: PLR2004 - ASCII
            break
        if byte >= 0xC0:  # noqa: PLR2004 - the first byte of a longer character
            need = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4  # noqa: PLR2004
            return (data[:-back], data[-back:]) if need > back else (data, b"")
    return data, b""


class _Sieve:
    """Tells which of many patterns may stand in a text, at a cost that their number hardly changes.

    Only the grams (4 or 8 bytes) at multiples of a step are looked at. Of each pattern as many
    neighbouring grams are known as the step has bytes: wherever it stands, one of them is met.
    """

    def __init__(self, patterns: Iterable[bytes]) -> None:
        self._patterns = tuple(patterns)
        shortest = min(map(len, self._patterns), default=_SIEVES[0][0])
        _, self._format, step = next(sieve for sieve in _SIEVES if sieve[0] <= shortest)
        self._size = _GRAM_BYTES[self._format]
        self._stride = step // self._size
        self._owners: dict[int, list[bytes]] = {}
        for pattern in self._patterns:
            begin = _rarest_window(pattern, step + self._size - 1)
            for at in range(begin, begin + step):
                gram = int.from_bytes(pattern[at : at + self._size], sys.byteorder)
                self._owners.setdefault(gram, []).append(pattern)
        self._grams = frozenset(self._owners)

    def candidates(self, text: bytes) -> Iterable[bytes]:
        """Return every pattern that stands in `text`, and a few that do not."""
        if not self._grams:
            return ()
        whole = len(text) - len(text) % self._size
        met = self._grams.intersection(memoryview(text)[:whole].cast(self._format)[:: self._stride])
        return {pattern for gram in met for pattern in self._owners[gram]}


def _rarest_window(pattern: bytes, length: int) -> int:
    """Return where `length` bytes begin that other texts are least likely to hold."""
    begins = range(0, len(pattern) - length + 1, max(length // 4, 1))
    return max(begins, key=lambda at: len(set(pattern[at : at + length])))


class Redaction:
    """A job's secrets, made ready to be found; `stream` gives what one stream of output needs.

    Making it takes about 1 ms for five secrets of the usual length, 0.3 s for one of 64 KiB.
    """

    def __init__(self, secrets: Iterable[tuple[str, Secret]] = ()) -> None:
        self._marks: dict[bytes, bytes] = {}
        self.too_short: tuple[str, ...] = ()
        """Names of the secrets that are not taken out, because they have less than 6 bytes."""
        for name, secret in secrets:
            found = spellings(secret.reveal())
            if not found:
                self.too_short += (name,)
            for spelling in found:
                self._marks.setdefault(spelling, f"{_MARK}{name}{_MARK}".encode())
        # Of a secret that is its own name, the name is not shown.
        telling = {m for m in set(self._marks.values()) if any(one in m for one in self._marks)}
        for spelling in [one for one, mark in self._marks.items() if mark in telling]:
            self._marks[spelling] = _MARK.encode()
        short = [one for one in self._marks if len(one) < _ALONE_BYTES]
        if len(short) > _MOST_FOUND_ALONE:
            short = [one for one in short if len(one) < _SIEVES[-1][0]]
        self._alone = tuple(short)
        self._sieve = _Sieve(self._marks.keys() - set(short))
        self._by_byte: dict[int, list[bytes]] = {}
        for pattern in self._marks:
            for byte in set(pattern[:-1]):
                self._by_byte.setdefault(byte, []).append(pattern)

    def __bool__(self) -> bool:
        """True where there is anything to find."""
        return bool(self._marks)

    def stream(self) -> Redactor:
        """Return the redactor of one stream, which remembers what it holds back."""
        return Redactor(self)

    def redact(self, data: bytes) -> bytes:
        """Return `data` without secrets; the beginning of one at its very end counts too."""
        if not self._marks:
            return data
        redactor = self.stream()
        return redactor.feed(data) + redactor.flush()

    def redact_text(self, text: str) -> str:
        """Return `text` without secrets."""
        if not self._marks or len(text) * 4 < MIN_BYTES:
            return text
        return self.redact(text.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def redact_data(self, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Return `value`, made of what JSON has, with all its texts and names redacted."""
        if not self._marks:
            return value
        if isinstance(value, str):
            return self.redact_text(value)
        if isinstance(value, dict):
            return {self.redact_data(key): self.redact_data(one) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.redact_data(one) for one in value]
        return value

    def spans(self, text: bytes) -> list[tuple[int, int, bytes]]:
        """Return (begin, end, mark) of every spelling in `text`, leftmost and longest first.

        They may overlap. None cuts a character of UTF-8.
        """
        found = []
        for pattern in (*self._alone, *self._sieve.candidates(text)):
            at = text.find(pattern)
            while at >= 0:
                begin, end = _whole_characters(text, at, at + len(pattern))
                found.append((begin, end, self._marks[pattern]))
                at = text.find(pattern, at + 1)
        return sorted(found, key=lambda span: (span[0], -span[1], span[2]))

    def unfinished(self, text: bytes) -> tuple[int, bytes]:
        """Return where the longest end of `text` begins that may become a spelling, and its mark.

        That is at the end of `text` where there is none.
        """
        longest, mark = 0, b""
        for pattern in self._by_byte.get(text[-1], ()) if text else ():
            # Most are out at once: their last two bytes are nowhere in the pattern.
            if len(text) == 1 or pattern.find(text[-2:], 0, -1) >= 0 or pattern[0] == text[-1]:
                size = _overlap(text, pattern)
                if size > longest:
                    longest, mark = size, self._marks[pattern]
        begin, _ = _whole_characters(text, len(text) - longest, len(text))
        return begin, mark


def _overlap(text: bytes, pattern: bytes) -> int:
    """Return how many bytes at the end of `text` begin `pattern`, without being all of it."""
    head = pattern[:_HEAD_BYTES]
    at = text.find(head, max(len(text) - len(pattern) + 1, 0))
    while at >= 0:
        if pattern.startswith(memoryview(text)[at:]):
            return len(text) - at
        at = text.find(head, at + 1)
    most = min(len(head), len(pattern) - 1, len(text))
    return next((size for size in range(most, 0, -1) if text.endswith(head[:size])), 0)


def _whole_characters(text: bytes, begin: int, end: int) -> tuple[int, int]:
    """Return the stretch, longer by what is missing of the characters at its ends."""
    for _ in range(3):
        if 0 < begin < len(text) and text[begin] & 0xC0 == 0x80:  # noqa: PLR2004 - not a first byte
            begin -= 1
        if end < len(text) and text[end] & 0xC0 == 0x80:  # noqa: PLR2004
            end += 1
    return begin, end


class Redactor:
    """One stream of output on its way: bytes in, bytes without secrets out, characters whole.

    Held back is only the end that may become a secret when more comes, and what there is of an
    unfinished character.
    """

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction
        self._held = b""
        self._covered = 0
        """How many bytes of what is held lie below a mark that has been given out already."""

    def feed(self, chunk: bytes) -> bytes:
        """Take what was printed and return what may be shown."""
        text, rest = split_at_character(self._held + chunk if self._held else chunk)
        if not self._redaction:
            self._held = rest
            return text
        keep, _ = self._redaction.unfinished(text)
        shown = self._show(text, keep)
        self._held = text[keep:] + rest
        return shown

    def settle(self) -> bytes:
        """Return what is held back, because for now nothing more comes.

        The beginning of a secret, of 6 bytes or more, counts as one: whoever was killed in the
        middle of printing it has printed most of it. An unfinished character stays.
        """
        text, rest = split_at_character(self._held)
        shown = self._finish(text)
        self._held = rest
        return shown

    def flush(self) -> bytes:
        """Return all that is left, at the end of the stream."""
        shown = self._finish(self._held)
        self._held = b""
        return shown

    def _finish(self, text: bytes) -> bytes:
        if not self._redaction:
            return text
        begin, mark = self._redaction.unfinished(text)
        if len(text) - begin < MIN_BYTES:
            begin, mark = len(text), b""
        shown = self._show(text, begin)
        if self._covered:
            mark = b""
        self._covered = 0
        return shown + mark

    def _show(self, text: bytes, end: int) -> bytes:
        """Return `text` up to `end`, with one mark for each stretch of overlapping spellings."""
        if end == 0:
            return b""
        at = self._covered
        shown: list[bytes] = []
        for begin, stop, mark in self._redaction.spans(text):
            if begin >= max(end, at):
                break
            if begin >= at:
                shown += (text[at:begin], mark)
            at = max(at, stop)
        shown.append(text[at:end])
        self._covered = max(at - end, 0)
        return b"".join(shown)
