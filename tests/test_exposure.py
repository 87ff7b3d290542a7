"""What a model may have seen: known sources, cut-off dates, and days on which files last changed."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from types import SimpleNamespace

import pytest

from helpers.data.corpus import load_corpus
from helpers.data.exposure import SOURCES, exposure, last_changes
from helpers.records import Corpus
from helpers.settings import TINY_CODE_LM, CorpusSettings

QWEN = "Qwen/Qwen2.5-Coder-0.5B"
BODY = "def {0}(value):\n    '''Return {0} of the value, for all values.'''\n    return value + {1}\n"


def git(folder, *arguments: str, day: str = "2023-01-01") -> None:
    stamp = f"{day}T12:00:00+0000"
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        check=True, capture_output=True, env=os.environ | {"GIT_COMMITTER_DATE": stamp, "GIT_AUTHOR_DATE": stamp},
    )  # fmt: skip


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """Make three files in a repository: one from 2023, one changed in 2025, one never committed."""
    root = tmp_path_factory.mktemp("repository")
    code = root / "code"
    code.mkdir()
    git(root, "init", "--quiet")
    for number, name in enumerate(("old", "größe")):
        (code / f"{name}.py").write_text(BODY.format(f"first_{number}", number) * 8)
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    (code / "größe.py").write_text(BODY.format("second", 2) * 8)
    git(root, "commit", "--quiet", "-am", "second", day="2025-06-07")
    (code / "new.py").write_text(BODY.format("third", 3) * 8)
    return code


def corpus_of(folder) -> Corpus:
    return load_corpus(f"path:{folder}", CorpusSettings(min_file_bytes=1, near_duplicate_threshold=1.0))


@pytest.mark.parametrize(
    ("name", "day"),
    [("SmolLM2 135M Instruct", "2024-11-01"), ("Qwen2.5 Coder 0.5B", "2024-02-01"), ("Some other model", "")],
)
def test_a_gguf_file_is_dated_by_its_own_name(history, monkeypatch, name, day):
    monkeypatch.setattr(
        "helpers.data.exposure.find_gguf", lambda spec: SimpleNamespace(model_name=lambda: name)
    )
    known = exposure("gguf:model.gguf", corpus_of(history))
    assert known.status == ("partly_unseen" if day else "unknown")
    assert f"on or after {day}" in known.note or not day


def test_days_are_those_of_the_last_commit_that_touched_a_file(history):
    assert last_changes(corpus_of(history)) == {
        "old.py": datetime.date(2023, 1, 1),
        "größe.py": datetime.date(2025, 6, 7),
    }


def test_files_changed_after_the_cut_off_are_the_slice(history):
    known = exposure(QWEN, corpus_of(history))
    assert known.status == "partly_unseen"
    assert known.unseen == ("größe.py",)
    assert known.note.startswith("1 of 3 files changed on or after 2024-02-01")


def test_without_history_nothing_is_claimed(history, tmp_path):
    shallow = tmp_path / "shallow"
    source = f"file://{history.parent}"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", source, str(shallow)], check=True)
    for folder in (shallow / "code", _copied(history, tmp_path / "plain")):
        known = exposure(QWEN, corpus_of(folder))
        assert (known.status, known.unseen) == ("unknown", ())
        assert "may have seen any of them" in known.note


def test_a_model_of_this_project_knows_its_sources(history, tmp_path):
    corpus = load_corpus("installed:rich", CorpusSettings(max_files=3))
    assert exposure(TINY_CODE_LM, corpus).status == "trained_on"
    assert exposure(TINY_CODE_LM, corpus_of(history)).status == "unseen"
    stretches = [{"tokens": 1}, {"corpus": {"sources": [{"name": "Elsewhere"}]}}]
    (tmp_path / SOURCES).write_text(json.dumps(stretches))
    assert exposure(str(tmp_path), corpus).status == "unseen"


def test_of_any_other_model_nothing_is_known(history):
    assert exposure("somebody/some-model", corpus_of(history)).status == "unknown"


def _copied(folder, target):
    target.mkdir()
    for file in folder.glob("*.py"):
        (target / file.name).write_bytes(file.read_bytes())
    return target
