from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_aios.core.audit import (
    LOCKED_KEY,
    START,
    AuditHead,
    AuditRow,
    canonical,
    chain,
    verify,
)
from jupyter_aios.core.entities import UserId

KEY, OTHER = b"k" * 32, b"o" * 32
ROWS = st.builds(
    AuditRow,
    at=st.floats(allow_nan=False, allow_infinity=False),
    user=st.text(max_size=3).map(UserId),
    action=st.text(max_size=3),
    resource=st.text(max_size=3),
    is_allowed=st.booleans(),
    reason=st.text(max_size=3),
    seq=st.integers(0, 3),
    is_sealed=st.booleans(),
)


def row(number: int) -> AuditRow:
    return AuditRow(1000.0 + number, UserId("ada"), "job:read", f"job:{number}", True, "own")  # noqa: FBT003


def make_chain(keys: list[bytes | None]) -> list[AuditRow]:
    rows: list[AuditRow] = []
    head = START
    for number, key in enumerate(keys):
        rows.append(chain(row(number), head, key))
        head = AuditHead(rows[-1].seq, rows[-1].mac)
    return rows


CHAIN = make_chain([None, KEY, KEY, None, KEY, None])


def test_a_mac_is_what_the_documentation_says() -> None:
    content = json.dumps(
        [1, 1000.0, "ada", "job:read", "job:0", True, "own", False], separators=(",", ":")
    )
    first = hmac.new(b"locked", bytes(32) + content.encode(), hashlib.sha256)
    assert CHAIN[0].mac == first.hexdigest()
    second = hmac.new(KEY, first.digest() + canonical(CHAIN[1]), hashlib.sha256)
    assert CHAIN[1].mac == second.hexdigest()


@given(left=ROWS, right=ROWS)
def test_two_contents_never_have_the_same_bytes(left: AuditRow, right: AuditRow) -> None:
    # repr: 0.0 and -0.0 are equal, and yet not written alike.
    assert (canonical(left) == canonical(right)) == (repr(left) == repr(right))


def test_an_unbroken_chain_is_good_and_says_how_far_it_is_sealed() -> None:
    report = verify(CHAIN, [OTHER, KEY])
    assert report.is_good
    assert (report.head, report.sealed_until, report.unchecked) == (
        AuditHead(6, CHAIN[5].mac), 5, 0,
    )  # fmt: skip


@pytest.mark.parametrize("place", range(len(CHAIN)))
@pytest.mark.parametrize(
    "change",
    [
        {"at": 1.0},
        {"user": UserId("eve")},
        {"action": "job:cancel"},
        {"resource": "job:x"},
        {"is_allowed": False},
        {"reason": ""},
        {"mac": "ff" * 32},
    ],
)
def test_any_change_of_any_row_is_found_with_its_place(
    place: int, change: dict[str, object]
) -> None:
    rows = [*CHAIN]
    rows[place] = replace(rows[place], **change)  # type: ignore[arg-type]
    assert f"row {place + 1} " in verify(rows, [KEY]).fault


@pytest.mark.parametrize("place", range(len(CHAIN) - 1))
def test_a_row_that_was_taken_out_put_in_or_moved_is_found(place: int) -> None:
    without = CHAIN[:place] + CHAIN[place + 1 :]
    assert not verify(without, [KEY]).is_good
    renumbered = [replace(one, seq=number + 1) for number, one in enumerate(without)]
    assert not verify(renumbered, [KEY]).is_good
    doubled = [*CHAIN[: place + 1], *CHAIN[place:]]
    assert not verify(doubled, [KEY]).is_good
    moved = [*CHAIN]
    moved[place], moved[place + 1] = moved[place + 1], moved[place]
    assert not verify(moved, [KEY]).is_good


@pytest.mark.parametrize("place", range(5))
def test_a_row_forged_with_the_public_key_is_found_by_the_next_sealed_one(place: int) -> None:
    head = START if place == 0 else AuditHead(CHAIN[place - 1].seq, CHAIN[place - 1].mac)
    forged = chain(replace(CHAIN[place], user=UserId("eve")), head, None)
    rows = [*CHAIN[:place], forged, *CHAIN[place + 1 :]]
    assert verify(rows[: place + 1], [KEY]).is_good
    assert not verify(rows, [KEY]).is_good


def test_what_follows_the_last_sealed_row_could_be_anybody_s_and_is_said() -> None:
    forged = chain(row(99), AuditHead(5, CHAIN[4].mac), None)
    report = verify([*CHAIN[:5], forged], [KEY])
    assert (report.is_good, report.sealed_until, report.head.seq) == (True, 5, 6)


def test_a_chain_without_its_end_is_found_by_a_head_that_was_kept() -> None:
    kept = AuditHead(5, CHAIN[4].mac)
    assert verify(CHAIN, [KEY], [kept]).is_good
    assert verify(CHAIN[:4], [KEY]).is_good
    assert verify(CHAIN[:4], [KEY], [kept]).fault == "it ends at row 4, but row 5 has been there"
    assert not verify([], [KEY], [kept]).is_good


def test_a_chain_that_was_made_anew_is_found_by_a_head_that_was_kept() -> None:
    anew = make_chain([None] * 6)
    assert verify(anew, [KEY]).is_good
    fault = verify(anew, [KEY], [AuditHead(5, CHAIN[4].mac)]).fault
    assert fault == "row 5 is another than the one that was noted elsewhere"


def test_while_the_vault_is_locked_sealed_rows_are_counted_not_trusted() -> None:
    report = verify(CHAIN, [])
    assert (report.is_good, report.unchecked) == (True, 3)
    changed = [*CHAIN]
    changed[3] = replace(changed[3], reason="x")
    assert "row 4 " in verify(changed, []).fault


def test_another_key_does_not_do() -> None:
    assert "row 2 " in verify(CHAIN, [OTHER]).fault
    assert "row 2 " in verify(CHAIN, [LOCKED_KEY]).fault
