from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_aios.errors import UnknownNameError
from jupyter_aios.testing.engines import FakeEngine
from tests.controller.rig import Rig


class Careless(FakeEngine):
    """An engine that gives out any file."""

    def result_path(self, ref: object, name: str) -> Path:
        del ref
        return Path("/results") / name


@pytest.mark.parametrize("name", ["../../store.sqlite", "/etc/passwd", "weight", ""])
def test_an_engine_is_asked_for_no_result_but_those_that_the_job_listed(
    tmp_path: Path, name: str
) -> None:
    home = tmp_path / "home"
    rig = Rig(home, engine=Careless(home))
    job = rig.submit()
    rig.turn()
    rig.fake.attempt(rig.ref(job)).leave("weights", b"12345", kind="state")
    service = rig.controller.service
    assert service.result_path(rig.job(job), "weights") == Path("/results/weights")
    with pytest.raises(UnknownNameError):
        service.result_path(rig.job(job), name)
