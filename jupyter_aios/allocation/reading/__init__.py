"""Problems from what people have: text, tables, traces, the live cluster. All faults at once.

text       YAML, with line numbers
formula    the textbook's r, c and cost
frames     DataFrames, and anything else that has columns
traces     CSV files of production traces
cluster    the live cluster's nodes and jobs
whole      all parts of an input together
tree       what was typed, before it is understood
sheets     rows of nodes and tasks as checked columns
values     one cell: amounts, names, switches
mappings   cells that are mappings: labels, places, what is used
machines   nodes and their labels
demands    tasks: counts and gangs unrolled, groups numbered
zones      where a task may be, where it is now
quotas     limits of users and groups
names      names that are made when asked
faults     what is wrong, with the line or row where it stands
"""

from jupyter_aios.allocation.reading.cluster import problem_of_cluster
from jupyter_aios.allocation.reading.frames import read_frames
from jupyter_aios.allocation.reading.text import read, read_text
from jupyter_aios.allocation.reading.traces import read_trace
from jupyter_aios.allocation.reading.tree import Reading
from jupyter_aios.allocation.reading.whole import read_plain

__all__ = [
    "Reading",
    "problem_of_cluster",
    "read",
    "read_frames",
    "read_plain",
    "read_text",
    "read_trace",
]
