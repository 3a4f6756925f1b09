"""Watching a run.

timeline   what ran where and when, as an array; ``trace``, ``figure`` and ``report`` write it
summary    where the workers' time went; ``advice`` says what to change
progress   bars and functions that are told how far something is
monitor    what a mapper shows; ``attach`` looks at it from outside
memory     what processes had at most

Nothing is imported here: a distributor's supervisor uses ``progress`` where there is no numpy.
"""
