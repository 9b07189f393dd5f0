"""The verbs: `%aios VERB` in a notebook and `jupyter aios VERB` in a terminal are the same.

arguments    a parser whose errors are short and offer the nearest name
options      what can be said about a training job, in one place
tree         the verbs, their help and their completion
looking, acting, rerunning, doctor  what the verbs do
here         what is shown where no verb is typed
kept, keeping  cells, push, pull and interrupt in ranks that a job keeps; what is typed for them
submitting   from packed code and options to a job
record       what makes a run repeatable
allocating   what is to be placed on nodes: a file, a cell, tables, traces, the live cluster
solving, answer  the search and its interrupt; an allocation that draws and explains itself
handle, api  what Python gets: a job, and `aios.submit`
"""
