"""Ranks that stay after their code, with all its variables, for more cells.

orders   what is ordered of them, as files in the attempt's folder
serving  the rank: takes the orders one after the other
watch    the agent: interrupts a cell, sees when all are idle, releases them

fingerprints   which functions are other ones in the notebook by now

Nothing here imports torch.
"""
