"""scripts/try_settings.py: what it calls untouched is where its trainings start, and rows are kept."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from helpers.data.general_code import general_code_texts

SCRIPT = Path(__file__).parents[1] / "scripts" / "try_settings.py"
SMALL = (
    "track_a.train_tokens=3000",
    "track_a.validation_tokens=600",
    "track_a.test_tokens=600",
    "track_a.learning_rate=1e-4",
    "track_a.keep_gain=1",
    "corpus.train_fraction=0.5",
    "corpus.validation_fraction=0.25",
)


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A folder of files that are no near copies of each other."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, text in enumerate(general_code_texts(8, 3)):
        (folder / f"part_{number}.py").write_text(text, encoding="utf-8")
    return folder


def rows_of(corpus: Path, out: Path, monkeypatch, *options: str) -> list[dict]:
    spec = importlib.util.spec_from_file_location("try_settings", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.GENERAL_FILES = 1
    changes = [word for change in SMALL for word in ("--set", change)]
    words = ["a", "--profile", "smoke", "--corpus", f"path:{corpus}", "--out", str(out), *changes, *options]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    script.main()
    return [json.loads(line) for line in (out / "tried.jsonl").read_text().splitlines()]


def test_the_untouched_score_is_where_a_training_starts(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    rows_of(corpus, out, monkeypatch, "--base")
    base, trained = rows_of(corpus, out, monkeypatch)
    assert trained["validation"][0] == pytest.approx(base["validation"], abs=2e-3)  # bfloat16 in two forms
    assert len(trained["validation"]) == 3  # before, halfway, at the end
    assert trained["general"] != base["general"]
    assert trained["changes"] == list(SMALL)
