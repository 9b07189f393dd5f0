"""Colours of the pictures that saved notebooks keep: middle tones, for light and dark pages."""

GREY = "#808080"
COLOURS = (
    "#3987e5", "#e8752a", "#2fa36b", "#cf5a9f", "#9273d6",
    "#1f9fab", "#bf8f1c", "#e0565d", "#7b8c9c", "#7aa52b",
)  # fmt: skip
STATES = {
    "succeeded": "#2fa36b", "failed": "#e0565d", "running": "#3987e5",
    "optimal": "#2fa36b", "feasible": "#3987e5", "infeasible": "#e0565d", "undecided": "#bf8f1c",
}  # fmt: skip
"""Of a job's states and an allocation's."""
