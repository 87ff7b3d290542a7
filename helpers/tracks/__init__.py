"""The three tracks, each read top to bottom: build, before, train, after, controls, record.

`a`, `b` and `c` hold the steps that the notebook calls, and beside each stage the inputs that decide its
identity. `session` opens and publishes a run, `preflight` tries its models first, `guards` decide what a
failure costs, `whole_run` reports on all tracks together. Algorithms do not belong here: data, training,
evaluation and tables live in the packages below.
"""

__all__ = ["a", "b", "c", "completion", "preflight", "request_check", "session", "whole_run"]
