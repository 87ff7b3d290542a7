"""Give a problem of the profiling lab to a language model that has tools, and grade what it submits.

`solve` is the entry. One run is one conversation (`solving`) over an endpoint (`endpoints`) with four tools
(`agent_tools`): read, run, profile, submit. Whatever the model writes runs in the sandbox alone, and is
graded like any submission. `docs/profiling-agent.md` says what is sent to the model's provider.
"""

__all__ = ["solve_command", "solve_table", "solving"]
