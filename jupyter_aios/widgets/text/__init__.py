"""A job as text that grows, in a notebook, a terminal or a file.

transcript  events become lines (pure)
screen      where lines and the status line go
view        follows a job through the client until it ends
table       rows become aligned text
"""
