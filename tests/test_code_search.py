"""Search in a run's results: the right hits, as text and as JSON, and clear errors."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from tiny_embedder import function, save_tiny_embedder, small_code_base

from helpers.eval.lexical import build_lexical_index, save_lexical_index
from helpers.eval.retrieval import index_documents, save_index
from helpers.machine.hardware import Runtime
from helpers.models.embedder import load_embedder
from helpers.records import Document
from helpers.run.workspace import write_json, write_jsonl
from helpers.tools.search import SearchError, catalogue, newest_run, print_hits, search_code

PLAIN = Runtime(torch.device("cpu"), torch.float32, None, "sdpa", 1.0, ())
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A run folder with an untrained embedder, whose documents are the functions' own names."""
    folder = tmp_path_factory.mktemp("run")
    functions, _ = small_code_base()
    save_tiny_embedder(folder / "made").rename(folder / "model")
    (folder / "track_c" / "train").mkdir(parents=True)
    (folder / "model").rename(folder / "track_c" / "train" / "embedder")
    model = load_embedder(str(folder / "track_c" / "train" / "embedder"), PLAIN)
    documents = [Document(f.id, f.name.replace("_", " "), f.path) for f in functions]
    index = index_documents(model, documents, PLAIN, batch_size=32, max_tokens=48)
    save_index(index, folder / "track_c" / "index_after")
    save_words(folder, documents, weight=0.0)
    write_jsonl(folder / "track_c" / "functions" / "rows.jsonl", catalogue(functions))
    return folder


def save_words(folder: Path, documents: list[Document], weight: float) -> None:
    place = folder / "track_c" / "hybrid"
    save_lexical_index(build_lexical_index(documents), place / "words")
    write_json(place / "weights.json", {"before": {"weight": 9.0}, "after": {"weight": weight}})


def test_bm25_decides_if_the_run_gave_it_weight(run_folder, tmp_path):
    shutil.copytree(run_folder, tmp_path / "run")
    functions, _ = small_code_base()
    named = [Document(f.id, "zebra" if f.name == "weigh_wheels" else "horse", f.path) for f in functions]
    question = "zebra: count apples"
    places = []
    for weight in (0.0, 3.0):  # more than two cosines differ
        save_words(tmp_path / "run", named, weight)
        hits = search_code(tmp_path / "run", question, len(functions), PLAIN)
        places.append([hit.name for hit in hits].index("weigh_wheels"))
    assert places[0] > 0
    assert places[1] == 0
    assert hits[0].score > 2.0
    assert len(search_code(tmp_path / "run", question, 2, PLAIN)) == 2


def test_the_function_asked_for_comes_first_with_its_place(run_folder):
    hits = search_code(run_folder, "weigh wheels", 3, PLAIN)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert (hits[0].path, hits[0].line, hits[0].name) == ("pkg/wheels.py", 1, "weigh_wheels")
    assert hits[0].snippet.startswith("def weigh_wheels(x):")
    assert hits[0].score == pytest.approx(1.0, abs=1e-3)
    assert hits[0].score >= hits[1].score >= hits[2].score


def test_printed_hits_can_be_read_and_clicked(run_folder):
    stream = io.StringIO()
    print_hits(search_code(run_folder, "weigh wheels", 2, PLAIN), Console(file=stream, width=40))
    lines = stream.getvalue().splitlines()
    assert lines[0] == " 1  1.000  pkg/wheels.py:1  weigh_wheels"
    assert "def weigh_wheels(x):" in lines[1]
    assert "\x1b" not in stream.getvalue()


def test_long_functions_are_cut_and_say_so():
    body = "\n    ".join(f"x = x + {number}" for number in range(20))
    (row,) = catalogue([function("a.py", "f", "", body)])
    assert row["snippet"].splitlines()[-1].strip() == "..."
    assert len(row["snippet"].splitlines()) == 9


def test_a_run_that_cannot_be_searched_is_refused(run_folder, tmp_path):
    with pytest.raises(SearchError, match="no run in"):
        search_code(tmp_path / "nowhere", "x", 1, PLAIN)
    with pytest.raises(SearchError, match="holds no embedder of Track C"):
        search_code(tmp_path, "x", 1, PLAIN)
    with pytest.raises(SearchError, match="question is empty"):
        search_code(run_folder, "  ", 1, PLAIN)
    with pytest.raises(SearchError, match="at least 1, not 0"):
        search_code(run_folder, "x", 0, PLAIN)


def test_the_newest_run_that_can_be_searched_is_taken(run_folder, tmp_path):
    with pytest.raises(SearchError, match="no finished run below"):
        newest_run(tmp_path)
    (tmp_path / "cpu-2-unfinished").mkdir()
    shutil.copytree(run_folder, tmp_path / "cpu-1")
    assert newest_run(tmp_path) == tmp_path / "cpu-1"


def test_the_command_prints_json_and_ends_with_one_sentence_without_a_run(run_folder, tmp_path, command):
    words = ["search", "weigh wheels", "--k", "2", "--run"]
    process = [sys.executable, "-m", "helpers", *words, str(run_folder), "--json"]
    done = subprocess.run(process, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    hits = json.loads(done.stdout)
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["path"] == "pkg/wheels.py"
    failed = command(*words, str(tmp_path / "none"))
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("error: there is no run in")
