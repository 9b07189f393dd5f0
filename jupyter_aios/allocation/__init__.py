"""Problem → Allocation: which task goes to which node and devices, and how good that is.

problem       tasks, nodes, zones, gangs, quotas, what is in force: as columns
reading       problems from text, tables, traces and the live cluster; all faults at once
objectives    what an allocation is good for, level after level
greedy        policies that place one task after the other, and the placer that works online
prices        linear programme → prices; a bound and what to place first
columns       column generation over whole-node patterns, for few kinds of tasks and many nodes
scale         prices and repair, for many kinds of tasks and nodes
exact         CP-SAT in a process that can be killed, for what is small; windows of what is not
assignment    the generalized assignment problem: costs
certificate   the proof of a bound, checked without the solvers
check         the proof that an allocation is feasible, without trusting who made it
ladder        `allocate`: the rungs one after the other, the best of them, checked
explain       why something is left out, what would mend it, and what if
"""
