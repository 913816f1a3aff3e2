"""Metrics as pure functions of arrays, with intervals and paired differences.

A new metric is a module here that holds its function and `METRICS`, a tuple of `metric.Metric` that says
the rest: name, label, unit, range, direction, version, what it needs, where it is shown. `clip_score` is a
short one. All else follows; `python -m fdlab leaderboard --metrics` lists them.
"""
