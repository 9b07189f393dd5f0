from __future__ import annotations

import base64
import binascii
import html
import json
import random
import re
from itertools import pairwise
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jupyter_aios.core.redaction import Redaction, split_at_character
from jupyter_aios.core.secrets import Secret
from jupyter_aios.core.spellings import MIN_BYTES, spellings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PEM = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    + "\n".join(base64.b64encode(bytes(range(at, at + 48))).decode() for at in range(0, 144, 48))
    + "\nAAECAw==\n-----END OPENSSH PRIVATE KEY-----\n"
)
SECRETS = {
    "TOKEN": "hf_Qx7tLw29cVbnMzKpRa",
    "PASSWORD": "c0rrect h/rse+battery?staple",
    "QUOTES": """it's "quoted" \\ and 'so' on""",
    "BACKSLASH": """a\\'b"c\\\\'d\\""",
    "UMLAUTS": "schlüßel-漢字-geheim",
    "SHORT": "s3cr3t",
    "PEM": PEM,
    "ACCOUNT": json.dumps({"type": "service_account", "private_key": PEM}, indent=1),
}


def redaction_of(secrets: Mapping[str, bytes | str]) -> Redaction:
    return Redaction([(name, Secret(value)) for name, value in secrets.items()])


ALL = redaction_of(SECRETS)


def in_pieces(redaction: Redaction, data: bytes, cuts: Sequence[int]) -> bytes:
    stream = redaction.stream()
    edges = [0, *sorted(cuts), len(data)]
    return b"".join(stream.feed(data[a:b]) for a, b in pairwise(edges)) + stream.flush()


def by_brute_force(secrets: Mapping[str, bytes], data: bytes) -> bytes:
    """Redact as the module's text says it, at every position and without any cleverness."""
    marks: dict[bytes, bytes] = {}
    for name, value in secrets.items():
        for spelling in spellings(value):
            marks.setdefault(spelling, f"•••{name}•••".encode())
    bare = {m for m in marks.values() if any(one in m for one in marks)}
    marks = {one: "•••".encode() if mark in bare else mark for one, mark in marks.items()}
    found = [
        (at, at + len(one), mark)
        for one, mark in marks.items()
        for at in range(len(data))
        if data.startswith(one, at)
    ]
    for size in range(len(data), MIN_BYTES - 1, -1):
        end = data[len(data) - size :]
        of = [mark for one, mark in marks.items() if one != end and one.startswith(end)]
        if of:
            found.append((len(data) - size, len(data), of[0]))
            break
    found.sort(key=lambda span: (span[0], -span[1], span[2]))
    shown, at = b"", 0
    for begin, stop, mark in found:
        if begin >= at:
            shown += data[at:begin] + mark
        at = max(at, stop)
    return shown + data[at:]


# ------------------------------------------------------------------------------- every spelling

PRINTED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a line of a log": lambda s: f"2026-11-25 INFO token={s}; ok",
    "base64, alone": lambda s: base64.b64encode(s.encode()).decode(),
    "base64, after one byte": lambda s: base64.b64encode(b"a" + s.encode() + b"xyz").decode(),
    "base64, after two bytes": lambda s: base64.b64encode(b"u:" + s.encode() + b"xyz").decode(),
    "base64, in lines of 76": lambda s: base64.encodebytes(s.encode()).decode(),
    "base64, URL-safe": lambda s: base64.urlsafe_b64encode(s.encode()).decode().rstrip("="),
    "hexadecimal": lambda s: s.encode().hex(),
    "hexadecimal, large": lambda s: binascii.hexlify(s.encode()).decode().upper(),
    "percent": lambda s: quote(s, safe=""),
    "percent, small": lambda s: re.sub("%..", lambda m: m[0].lower(), quote(s, safe="")),
    "a path": quote,
    "a query": lambda s: urlencode({"key": s, "q": "x"}),
    "a form": quote_plus,
    "JSON": lambda s: json.dumps({"key": s}),
    "JSON, not only ASCII": lambda s: json.dumps([s], ensure_ascii=False),
    "repr": repr,
    "repr, with other text": lambda s: repr(f"""both ' and " then {s} end"""),
    "ascii": ascii,
    "bytes": lambda s: repr(s.encode()),
    "HTML": html.escape,
    "UTF-16": lambda s: s.encode("utf-16-le").decode("latin-1"),
}


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("how", PRINTED)
def test_a_secret_is_taken_out_however_it_is_printed(name: str, how: str) -> None:
    printed = f"before\n{PRINTED[how](SECRETS[name].strip())}\nafter\n"
    data = printed.encode("latin-1") if how == "UTF-16" else printed.encode()
    shown = ALL.redact(data)
    assert f"•••{name}•••".encode() in shown or name in ("PEM", "ACCOUNT")
    assert "•••".encode() in shown
    assert shown.startswith(b"before\n")
    assert shown.endswith(b"\nafter\n")
    assert not [one for one in spellings(SECRETS[name].encode()) if one in shown]


@settings(max_examples=150, deadline=None)
@given(
    value=st.text("ab'\"\\\n\t%+/é漢<&\x1b🔑", min_size=6, max_size=40),
    how=st.sampled_from([how for how in PRINTED if how != "UTF-16"]),
)
def test_whatever_the_secret_and_however_it_is_printed_the_mark_is_there(
    value: str, how: str
) -> None:
    redaction = redaction_of({"S": value})
    assume(redaction)
    shown = redaction.redact(PRINTED[how](value.strip()).encode())
    assert "•••S•••".encode() in shown


def test_lines_of_a_key_are_taken_out_one_by_one_and_its_armour_stays() -> None:
    shown = ALL.redact_text("".join(f"key> {line}\n" for line in PEM.splitlines()))
    lines = shown.splitlines()
    assert lines[0] == "key> -----BEGIN OPENSSH PRIVATE KEY-----"
    assert {line.count("•••") for line in lines[1:-1]} == {2}
    assert not [line for line in PEM.splitlines()[1:-1] if line in shown]


def test_the_key_inside_a_service_account_is_found_by_itself() -> None:
    only = redaction_of({"ACCOUNT": SECRETS["ACCOUNT"]})
    shown = only.redact_text(json.loads(SECRETS["ACCOUNT"])["private_key"])
    assert not [line for line in PEM.splitlines()[1:-1] if line in shown]


def test_bytes_that_are_no_text_are_found_too() -> None:
    value = bytes(range(120, 220))
    redaction = redaction_of({"KEY": value})
    printed = (value, value.hex().encode(), base64.b64encode(value), repr(value)[2:-1].encode())
    for one in printed:
        assert redaction.redact(b"<" + one + b">").startswith("<•••KEY•••".encode()), one


def test_of_a_secret_that_is_its_own_name_only_the_mark_is_shown() -> None:
    redaction = redaction_of({"hunter2": "hunter2", "OTHER": "something"})
    assert redaction.redact_text("hunter2 something") == "••• •••OTHER•••"


def test_a_secret_that_is_too_short_is_told_and_left() -> None:
    redaction = redaction_of({"PIN": "12345", "BLANK": " \n ", "TOKEN": "abcdef"})
    assert redaction.too_short == ("PIN", "BLANK")
    assert redaction.redact_text("12345 abcdef") == "12345 •••TOKEN•••"


def test_names_and_texts_of_data_are_redacted_and_numbers_stay() -> None:
    data = {"loss of s3cr3t": 1.5, "list": [{"text": f"x {SECRETS['UMLAUTS']}"}, None, True]}
    assert ALL.redact_data(data) == {
        "loss of •••SHORT•••": 1.5,
        "list": [{"text": "x •••UMLAUTS•••"}, None, True],
    }


# ---------------------------------------------------------------------------------- the stream


def test_only_what_may_become_a_secret_is_held_back() -> None:
    stream = redaction_of({"TOKEN": "hf_Qx7tLw29"}).stream()
    assert stream.feed(b"Continue? [y/n] ") == b"Continue? [y/n] "
    assert stream.feed(b"token: hf_Q") == b"token: "
    assert stream.feed(b"x7tL") == b""
    assert stream.feed(b"X") == b"hf_Qx7tLX"
    assert stream.feed(b" hf_Qx7tLw2") == b" "
    assert stream.feed(b"9 ok") == "•••TOKEN••• ok".encode()
    assert stream.flush() == b""


def test_what_was_held_back_comes_when_the_stream_settles_or_ends() -> None:
    stream = redaction_of({"TOKEN": "hf_Qx7tLw29"}).stream()
    assert stream.feed("ü hf_".encode()) == "ü ".encode()
    assert stream.settle() == b"hf_"
    assert stream.feed(b"hf_Qx7tLw\xc3") == b""
    assert stream.settle() == "•••TOKEN•••".encode()
    assert stream.feed(b"\xbc") == "ü".encode()
    assert stream.flush() == b""


def test_half_a_secret_at_the_end_is_a_secret() -> None:
    redaction = redaction_of({"TOKEN": "hf_Qx7tLw29", "BIG": "x" + "0123456789abcdef" * 4096})
    assert redaction.redact_text("killed at hf_Qx7") == "killed at •••TOKEN•••"
    assert redaction.redact_text("killed at hf_Qx") == "killed at hf_Qx"
    assert redaction.redact_text("cut: x" + "0123456789abcdef" * 100) == "cut: •••BIG•••"


def test_no_character_is_cut_by_a_secret_that_begins_or_ends_inside_one() -> None:
    redaction = redaction_of({"KEY": "ü".encode()[1:] + b"abcdef" + "漢".encode()[:2]})
    text = "·ü" + "abcdef" + "漢·"
    for cut in range(len(text.encode())):
        assert in_pieces(redaction, text.encode(), [cut]).decode() == "·•••KEY•••·"


def test_a_stretch_of_overlapping_secrets_is_held_no_longer_than_one_secret() -> None:
    redaction = redaction_of({"PERIODIC": "abcabcabc"})
    stream = redaction.stream()
    shown = [stream.feed(b"abc" * 10) for _ in range(1000)]
    assert b"".join(shown) == "•••PERIODIC•••".encode()
    assert len(stream._held) < 9  # noqa: SLF001 - that nothing piles up cannot be seen from outside
    assert stream.feed(b". ") + stream.flush() == b". "


@settings(max_examples=400, deadline=None)
@given(
    secrets=st.lists(st.text("ab\n", min_size=6, max_size=12), min_size=1, max_size=3),
    text=st.text("ab\nü", max_size=120),
    cuts=st.lists(st.integers(0, 120), max_size=8),
)
def test_the_stream_shows_what_brute_force_shows(
    secrets: list[str], text: str, cuts: list[int]
) -> None:
    named = {f"S{number}": value.encode() for number, value in enumerate(secrets)}
    data = text.encode()
    redaction = redaction_of(named)
    expected = by_brute_force(named, data) if redaction else data
    assert in_pieces(redaction, data, [min(cut, len(data)) for cut in cuts]) == expected


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_any_bytes_without_secrets_come_through_as_they_are(data: bytes, cuts: list[int]) -> None:
    cuts = [min(cut, len(data)) for cut in cuts]
    assert in_pieces(redaction_of({}), data, cuts) == data
    assert in_pieces(redaction_of({"TOKEN": "\x01not in there\x02"}), data, cuts) == data


def check_random_splits(times: int, seed: int) -> None:
    """Plant spellings of random secrets at the borders of chunks, and look for them."""
    draw = random.Random(seed)
    alphabets = ["abc", "0123456789abcdef", "etaoin shrdlu\n", "äöü漢字 ab", "A-Za/+_=%\\\"'"]
    redactions = []
    for _ in range(max(times // 100, 1)):
        named = {
            f"S{number}": "".join(draw.choices(alphabets[number], k=draw.randint(6, 90)))
            for number in range(len(alphabets))
        }
        redactions.append((named, redaction_of(named)))
    for turn in range(times):
        named, redaction = redactions[turn % len(redactions)]
        every = [one for value in named.values() for one in spellings(value.encode())]
        clean, data, cuts = b"", b"", []
        for _ in range(draw.randint(1, 4)):
            filler = "".join(draw.choices("xyz .\n§€", k=draw.randint(0, 60))).encode()
            clean += filler
            data += filler
            if every:
                planted = draw.choice(every)
                cuts.append(len(data) + draw.randint(0, len(planted)))
                cuts.append(len(data) + draw.randint(0, len(planted)))
                data += planted + b"|"
        shown = in_pieces(redaction, data, cuts)
        leaks = [one for one in every if one in shown]
        assert not leaks, (seed, turn, leaks, data)
        assert in_pieces(redaction, clean, [draw.randint(0, len(clean))]) == clean
        with_no_secret = shown.decode("utf-8", "replace")
        assert "�" not in with_no_secret or "�" in data.decode("utf-8", "replace"), (seed, turn)


def test_2_000_random_splits_leak_nothing() -> None:
    check_random_splits(2_000, seed=5)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_20_000_random_splits_leak_nothing() -> None:
    check_random_splits(20_000, seed=random.randrange(10**9))


def test_a_long_text_shows_what_brute_force_shows() -> None:
    """A text of many chunks, where the sieve and not the search for each pattern finds things."""
    draw = random.Random(11)
    named = {f"S{n}": draw.randbytes(24).hex()[: 20 + n].encode() for n in range(30)}
    every = [one for value in named.values() for one in spellings(value)]
    words = [
        b"".join(draw.choices([b"loss 0.25 ", b"\xc3\xa4", b"/path/"], k=9)) for _ in range(50)
    ]
    data = b"".join(w + draw.choice(every) + b" " for w in words for _ in range(4))
    redaction = redaction_of(named)
    shown = in_pieces(redaction, data, [*range(0, len(data), 997)])
    assert shown == by_brute_force(named, data)


@given(st.text(max_size=20), st.integers(0, 80))
def test_a_character_is_split_nowhere(text: str, cut: int) -> None:
    data = text.encode()[:cut]
    whole, rest = split_at_character(data)
    assert whole + rest == data
    assert text.startswith(whole.decode())
    assert len(rest) < 4
