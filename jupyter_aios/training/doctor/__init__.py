"""The hang doctor: which rank holds the others up, where, and what to try.

In a rank, once at its start (`rank`): wrappers of torch.distributed's functions write what the
rank is in into a small shared file (`collectives`, `vitals`), and a signal has the interpreter
write its stacks (`stacks` reads them).

In the agent (`watching`): a look once a second, which costs nothing while ranks move; where
nothing moves, what the kernel knows of their processes (`signs`); where that is suspicious, three
samples of their stacks. `judgement` decides and is pure; `words` says it; `places` finds cell and
line.

The promise is the silence: whoever computes, sleeps, reads a disk or a network is never blamed.
"""
