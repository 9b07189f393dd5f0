"""The words of the system as data, and the decisions on them that need nothing but that data.

Standard library only. Nothing here reads a clock, a file, a network or an environment variable:
time arrives as `now`, contents as arguments.
"""
