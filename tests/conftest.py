"""Shared fixtures. Tests need no network, no GPU, and no state outside `tmp_path`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import pytest
from made_once import made_once

if TYPE_CHECKING:
    from helpers.records import Corpus

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")

# Files that take over half a minute, longest first. Processes take whole files, so these must not come last.
LONGEST = ["test_planted_failures", "test_notebook_run", "test_fixed_budget", "test_preflight", "test_several_processes",
           "test_pretraining", "test_splits", "test_cheaper_forms", "test_profiling_grader", "test_instruct_data",
           "test_requirements", "test_interruption", "test_lab_notebook"]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the longest files to the front; `make test` hands files out in this order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONGEST)))


@pytest.fixture(scope="session")
def networkx_corpus(tmp_path_factory) -> Corpus:
    """The default corpus by the default rules; reading it takes fifteen seconds."""
    from helpers.data.corpus import load_corpus

    return made_once(tmp_path_factory, "networkx_corpus", lambda _: load_corpus("installed:networkx"))


class Ended(NamedTuple):
    """How a command ended, in the words of `subprocess`."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., Ended]:
    """Call `python -m helpers WORDS` in this process, which has imported everything already.

    An error that would end the process with a traceback is raised here.
    """

    def run(*words: str) -> Ended:
        from helpers.__main__ import main

        monkeypatch.setattr(sys, "argv", ["helpers", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(int(ended.value.code or 0), *capsys.readouterr())

    return run
