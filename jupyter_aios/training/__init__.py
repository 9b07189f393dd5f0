"""What runs in the zygote, the agents and the ranks, and the code that travels to them.

zygote  the warm process; forks agents
agent   the parent of an attempt's ranks on one machine; outlives zygote and controller
elastic the other launcher: torch elastic (torchrun) under the agent
bootstrap   the first and the last thing a rank does
context     what `import jupyter_aios as aios` offers inside a rank
packing     the notebook's side of travelling code; loading is the rank's side

The agent and everything it needs import no torch; only the zygote preloads it.
"""
