"""Do all ranks train on the same batches? Asked where all ranks are seen, by the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class SameBatches:
    """Compares the fingerprints of the ranks' first batches."""

    def __init__(self, world_size: int) -> None:
        self._world_size = world_size
        self._seen: dict[int, tuple[str, ...]] = {}

    def note(self, rank: int, fingerprints: Sequence[str]) -> str:
        """Return what the person should know once the last rank has come, else an empty text.

        Example:
            >>> both = SameBatches(2)
            >>> both.note(0, ["ab"])
            ''
            >>> both.note(1, ["ab"])[:34]
            'all 2 ranks see identical batches:'

        """
        if rank in self._seen:
            return ""
        self._seen[rank] = tuple(fingerprints)
        if len(self._seen) < self._world_size or len(set(self._seen.values())) > 1:
            return ""
        return (
            f"all {self._world_size} ranks see identical batches: each step does the same work"
            f" {self._world_size} times. Give the DataLoader"
            " sampler=DistributedSampler(dataset), or each rank data of its own"
        )
