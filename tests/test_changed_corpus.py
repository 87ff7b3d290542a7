"""When a file of the corpus changes, only the stages that read it are computed again."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import tiny_models
from test_splits import SETTINGS, toy

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.draw import draw_files
from helpers.data.queries.retrieval_data import build_retrieval_data
from helpers.data.splits import files_of, split_corpus
from helpers.profiles import RunRequest
from helpers.tracks.session import open_session

BUDGETS = {"training": 6_000, "validation": 1_000, "test": 1_500}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    for name, text in toy().items():
        (folder / name).write_text(text)
    return folder


def compute(repository: Path, out: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the stages that the notebook's own inputs rebuild, and Track A's paths by split."""
    run = open_session(RunRequest("smoke", corpus=f"path:{repository}", out=out, run_id="r"))
    a, b = run.profile.track_a, run.profile.track_b
    c = dataclasses.replace(run.profile.track_c, train_pairs=12, validation_pairs=2, test_queries=5)
    corpus = load_corpus(run.profile.corpus.spec, SETTINGS)
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, SETTINGS, run.seed)
    tokenizer = tiny_models.tokenizer()
    files = {
        name: draw_files(files_of(corpus, splits, name.removesuffix("ing")), tokenizer, budget, run.seed)
        for name, budget in BUDGETS.items()
    }
    texts = {name: [file.text for file in some] for name, some in files.items()}
    retrieval = build_retrieval_data(functions, splits, c, run.seed)
    built = []

    def stage(name, *inputs):
        run.stage(name, list(inputs), lambda made: built.append(name) or (made / "x").write_text(str(inputs)))
        return (run.folder / name / "x").read_text()

    stage("track_a/before", a, texts["test"])
    trained = stage("track_a/train", a, texts["training"], texts["validation"])
    stage("track_a/after", a, texts["test"], trained)
    stage("track_b/data", b, corpus.spec, corpus.sha256, splits)
    stage("track_c/index_before", c, retrieval.documents)
    stage("track_c/train", c, retrieval.train, retrieval.validation, retrieval.documents)
    return built, {name: [file.path for file in some] for name, some in files.items()}


OF_THE_WHOLE_CORPUS = ["track_b/data", "track_c/index_before", "track_c/train"]


@pytest.mark.parametrize(
    ("split", "again"),
    [
        ("test", ["track_a/before", "track_a/after", *OF_THE_WHOLE_CORPUS]),
        ("training", ["track_a/train", "track_a/after", *OF_THE_WHOLE_CORPUS]),
    ],
)
def test_what_reads_the_file_is_computed_again(repository, tmp_path, split, again) -> None:
    first, paths = compute(repository, tmp_path)
    assert len(first) == 6
    assert compute(repository, tmp_path)[0] == []
    changed = repository / paths[split][0]
    text = changed.read_text()
    changed.write_text(re.sub(r"\bv(\d+)", r"w\1", text, count=1))  # another name of the same length
    assert changed.read_text() != text
    built, same_paths = compute(repository, tmp_path)
    assert same_paths == paths
    assert built == again
