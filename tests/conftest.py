"""Shared fixtures. Tests need no network, no GPU, and no state outside `tmp_path`."""

from __future__ import annotations

import os

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

# Files that take over a minute, longest first. Processes take whole files, so these must not come last.
LONGEST = ["test_notebook_run", "test_fixed_budget", "test_pretraining", "test_planted_failures", "test_splits",
           "test_interruption", "test_several_processes", "test_requirements", "test_lab_notebook"]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the longest files to the front; `make test` hands files out in this order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))
