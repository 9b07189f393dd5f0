from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.units import (
    format_bytes,
    format_duration,
    format_milli,
    parse_bytes,
    parse_duration,
    parse_milli,
    parse_shape,
)
from jupyter_aios.errors import InputError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0), ("512", 512), ("1K", 1024), ("1KB", 1000), ("4GiB", 4 * 2**30),
        ("4gib", 4 * 2**30), ("1.5T", 3 * 2**39), (" 2 MB ", 2_000_000), ("0.5G", 2**29), ("3B", 3),
    ],
)  # fmt: skip
def test_bytes_are_read_as_people_write_them(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@given(st.integers(0, 2**50))
def test_formatted_bytes_are_read_back_to_three_digits(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == pytest.approx(count, rel=0.006, abs=0.6)


@given(st.integers(0, 2**62))
def test_a_plain_count_is_itself(count: int) -> None:
    assert parse_bytes(str(count)) == count


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30min", 1800), ("1h30min", 5400), ("90", 90), ("90s", 90), ("2d", 172800), ("1.5h", 5400),
        ("500ms", 0.5), ("1h 30m", 5400),
    ],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.floats(0.05, 10**7))
def test_formatted_durations_are_read_back(seconds: float) -> None:
    text = format_duration(seconds)
    # What is shown is rounded to its last unit: at most half a tenth, second, minute or hour.
    unit = 0.1 if seconds < 10 else 1 if seconds < 3600 else 60 if seconds < 172800 else 3600
    assert text.startswith("0.0") or abs(parse_duration(text) - seconds) <= unit


@given(st.integers(0, 10**9))
def test_milli_are_read_back(milli: int) -> None:
    text = f"{milli / 1000:.3f}"
    assert parse_milli(text, "GPUs") == milli


@given(st.integers(0, 999_999))
def test_formatted_milli_are_read_back(milli: int) -> None:
    assert parse_milli(format_milli(milli), "GPUs") == milli


@given(st.integers(1, 10**6), st.one_of(st.none(), st.integers(1, 10**6)))
def test_shapes_are_read_back(nodes: int, ranks: int | None) -> None:
    text = str(nodes) if ranks is None else f"{nodes}x{ranks}"
    assert parse_shape(text) == (nodes, ranks)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_bytes, ""), (parse_bytes, "-1"), (parse_bytes, "4 GiBs"), (parse_bytes, "lots"),
        (parse_bytes, "1e9"), (parse_bytes, "99999999999TiB"), (parse_bytes, "٣"),
        (parse_duration, ""), (parse_duration, "0"), (parse_duration, "-5s"),
        (parse_duration, "5 parsecs"), (parse_duration, "inf"), (parse_duration, "9" * 40),
        (parse_shape, "0"), (parse_shape, "x"), (parse_shape, "2x0"), (parse_shape, "1.5"),
        (parse_shape, "-1"), (parse_shape, "2x2x2"), (parse_shape, "9" * 12),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_a_hint(parse: object, text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(text)  # type: ignore[operator]
    assert repr(text) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "-1", "0.0001", "half", "1e3", "nan"])
def test_what_is_no_count_in_thousandths_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a number of GPUs"):
        parse_milli(text, "GPUs")


@pytest.mark.parametrize("parse", [parse_bytes, parse_duration, parse_shape])
@given(text=st.text(max_size=20))
def test_any_text_is_an_amount_or_an_input_error(parse: object, text: str) -> None:
    with contextlib.suppress(InputError):
        parse(text)  # type: ignore[operator]
