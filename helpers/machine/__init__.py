"""Adapt to the machine: its hardware, memory, processes, storage and terminal.

`hardware` turns hardware facts into decisions (device, precision, attention), `memory` retries with less
when memory runs out, `processes` shares work among the ranks of `accelerate launch`, `progress` shows
bars, `storage` checks where a run's results lie, and `cache_folder` says where caches do. This package knows
nothing about tracks, stages or run folders; those are in `helpers.run` and above.
"""

__all__ = ["cache_folder", "hardware", "memory", "processes", "progress", "storage", "usage"]
