"""This machine: attempts run under agents of their own, found again by their folders.

plans    an attempt as pure data
engine   writes its folder and hands it to an agent, through a warm process or torchrun
watch    its status, from what the agent wrote
reading  its events, by offsets
warm     the warm processes; machine: what this machine has
"""

from jupyter_aios.engines.local.engine import LocalEngine

__all__ = ["LocalEngine"]
