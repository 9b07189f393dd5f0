"""A job as a live view in a notebook: curves, output of every rank, state, stop.

series     one metric over all ranks: mean, lowest and highest by step (pure)
tails      the last lines of every rank (pure)
model      events become what the view shows (pure)
view       the widget, and the messages between kernel and page
following  feeds a view from a job, in a thread of its own
static     the picture and the page that a saved notebook keeps
*.js       what runs in the page, in the order of `view.SCRIPTS`
"""
