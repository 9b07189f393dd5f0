"""The verbs: `%aios VERB` in a notebook and `jupyter aios VERB` in a terminal are the same.

arguments    a parser whose errors are short and offer the nearest name
options      what can be said about a training job, in one place
tree         the verbs, their help and their completion
looking, acting, pulling, doctor    what the verbs do
submitting   from packed code and options to a job
handle, api  what Python gets: a job, and `aios.submit`
"""
