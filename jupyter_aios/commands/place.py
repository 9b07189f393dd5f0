"""Where a verb was typed: its client, the notebook's variables, and where it shows things."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_aios.client import Client
from jupyter_aios.commands.handle import JobHandle
from jupyter_aios.training.packing.environment import environment_for_job
from jupyter_aios.widgets.text.screen import Screen, choose_screen, kernel_shell
from jupyter_aios.widgets.text.view import follow, raise_failure

if TYPE_CHECKING:
    from jupyter_aios.core.entities import Job


def is_live(view: str) -> bool:
    """Return whether a job is shown in a live view: only a kernel's frontend can draw one."""
    chosen = view or os.environ.get("AIOS_VIEW", "") or "live"
    return chosen != "text" and kernel_shell() is not None


@dataclass
class Place:
    """A notebook (with `namespace`) or a command line (without)."""

    prefix: str = "%aios"
    namespace: MutableMapping[str, Any] | None = None
    screen: Screen | None = None
    _client: Client | None = field(default=None, repr=False)
    _home: str = ""
    _warmed: set[str] = field(default_factory=set, repr=False)

    @property
    def client(self) -> Client:
        """The client of this user's controller; another one where AIOS_HOME has changed."""
        home = os.environ.get("AIOS_HOME", "")
        if self._client is None or home != self._home:
            self._client, self._home = Client(), home
        return self._client

    def forget_client(self) -> None:
        """Look again where the controller is, at the next use."""
        self._client = None

    def warm_up(self, *, again: bool = False) -> None:
        """Have a warm process for this interpreter begin to load, at the first contact only."""
        home = os.environ.get("AIOS_HOME", "")
        if again or home not in self._warmed:
            self._warmed.add(home)
            self.client.warm(sys.executable, dict(environment_for_job(os.environ)))

    def handle(self, job: Job) -> JobHandle:
        """Return the job as people hold it."""
        return JobHandle(self.client, job, prefix=self.prefix)

    def follow(
        self,
        job: Job,
        *,
        on_interrupt: str = "cancel",
        only_rank: int | None = None,
        view: str = "",
    ) -> JobHandle:
        """Show a job until it ends; `view` is `live`, `text`, or what is usual here.

        Raises:
            TrainingError: it failed.
            FollowInterrupt: the person interrupted.

        """
        if self.screen is None and is_live(view):
            from jupyter_aios.widgets.training.following import follow as follow_live

            ended = follow_live(self.client, job, on_interrupt=on_interrupt, prefix=self.prefix)
            raise_failure(ended)
            return self.handle(ended)
        ended = follow(
            self.client,
            job,
            self.screen or choose_screen(),
            on_interrupt=on_interrupt,
            prefix=self.prefix,
            only_rank=only_rank,
        )
        raise_failure(ended)
        return self.handle(ended)
