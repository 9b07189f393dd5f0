"""Problem → Allocation: which task goes to which node and devices, and how good that is.

problem       tasks, nodes, zones, gangs, quotas, what is in force: as columns
entities      the system's nodes as columns
reading       problems from text, tables, traces and the live cluster; all faults at once
levels        the names of objectives, in the order in which they count
objectives    their values
reduction     what may neither move nor stop becomes less capacity
ladder        `allocate`: the rungs one after the other, the best of them, checked
  greedy      policies that place one task after the other
  prices      linear programme → prices: a bound, and what is worth its place
  columns     column generation over whole-node contents: few kinds of tasks, many nodes
  scale       prices and repair: tasks and nodes that all differ
  exact       CP-SAT: what is small
  repair      windows of a few nodes solved again
highs         the solver of linear programmes
worker        the process in which CP-SAT runs, and is killed when time is up
children      how processes of the allocator are started
check         the proof that an allocation is feasible, without trusting who made it
certificate   the proof of a bound, checked without the solvers
placed        what rungs propose: a node and devices for each task
result        `Allocation`: who is where, each level's value and bound
explain       why something is left out, what would mend it, and what if
online        one gang for the queue; a placer that follows a cluster; moves
assignment    the generalized assignment problem: costs
"""
