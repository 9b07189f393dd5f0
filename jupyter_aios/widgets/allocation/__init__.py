"""An allocation as a map in a notebook: nodes, their devices, who is where, what is left out.

words      how an allocation is told: status, bound, gap, demands (pure)
model      an allocation becomes columns for the page, groups of what is left out, loads (pure)
text       the same for a terminal: bars, tables (pure)
static     the picture and the page that a saved notebook keeps
view       the widget, and the messages between kernel and page
*.js       what runs in the page, in the order of `view.SCRIPTS`
"""
