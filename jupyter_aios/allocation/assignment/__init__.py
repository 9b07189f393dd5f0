"""The generalized assignment problem: every task to one node, at the least cost.

problem       tasks × nodes costs and demands, capacities; the answer; a check without the solver
reading       OR-Library's text format
relaxation    linear programme → prices, hence the pairs worth a look
knapsacks     all nodes' knapsacks at once
lagrange      the bound and its certificate
columns       column generation over whole-node choices
dive          an assignment from the columns, its last nodes dealt exactly
windows       CP-SAT on small parts
search        the moves: dives and windows
solve         `solve_assignment`: the ladder
certificate   the proof of a bound, checked without the solver
"""

from jupyter_aios.allocation.assignment.certificate import AssignmentCertificate
from jupyter_aios.allocation.assignment.problem import (
    AssignmentProblem,
    AssignmentSolution,
    faults,
)
from jupyter_aios.allocation.assignment.reading import read_assignment
from jupyter_aios.allocation.assignment.solve import solve_assignment

__all__ = [
    "AssignmentCertificate",
    "AssignmentProblem",
    "AssignmentSolution",
    "faults",
    "read_assignment",
    "solve_assignment",
]
