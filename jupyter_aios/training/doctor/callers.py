"""Which line of a call is the person's: the innermost that is neither a library's nor ours."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from jupyter_aios.training.doctor.vitals import VitalsWriter

_MOST_KNOWN = 1024
_MOST_FRAMES = 64


def library_folders() -> tuple[str, ...]:
    """Return what the file names of code begin with that no person here has written."""
    paths = sysconfig.get_paths()
    folders = [paths["stdlib"], paths["purelib"], paths["platlib"], str(Path(__file__).parents[2])]
    return (*dict.fromkeys(folder + os.sep for folder in folders), "<frozen ")


class Callers:
    """Finds the person's line of a call, as a number of the vitals file. Quick: it remembers."""

    def __init__(self, writer: VitalsWriter) -> None:
        self._writer = writer
        self._libraries = library_folders()
        self._is_person: dict[CodeType, bool] = {}

    def place(self, frame: FrameType | None) -> int:
        """Return the innermost line from `frame` outwards that is the person's; 0 for none."""
        known = self._is_person
        for _ in range(_MOST_FRAMES):
            if frame is None:
                break
            code = frame.f_code
            is_person = known.get(code)
            if is_person is None:
                if len(known) >= _MOST_KNOWN:
                    known.clear()
                is_person = known[code] = not code.co_filename.startswith(self._libraries)
            if is_person:
                return self._writer.place(code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return 0
