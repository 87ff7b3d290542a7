"""`python -m helpers report`: the same reports again, from the rows, facts and notebook in the run's folder."""

import copy
import json
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from helpers.data.card.page import FACTS, render_data_card, with_tasks_set_aside
from helpers.report.metrics import (
    MetricsError,
    assemble,
    not_run,
    rebuilt_metrics,
    record_track_a,
    run_section,
    write_items,
)
from helpers.report.rebuild import rebuild_report
from helpers.run.workspace import read_json, write_json

ROOT = Path(__file__).parents[1]
CARD_FACTS = {"profile": "cpu", "limits": ["a limit"], "seeds": {"all": 17}}
OPTIONS = {"model": "tiny", "seed": 17, "samples": 200, "cost": {"seconds": 1.0}}


def files(gain: float) -> list[dict]:
    return [
        {"path": f"{i}.py", "n_bytes": 100 + i, "n_tokens": 30, "nll_before": 90.0 + i, "nll_after": (90.0 + i) * (1 - gain)}
        for i in range(12)
    ]  # fmt: skip


def written(folder: Path, rows: list[dict]) -> dict:
    about = {"spec": "path:mine", "version": "", "files": 12, "sha256": "0" * 64}
    run = run_section(profile="cpu", run_id="cpu-1", corpus=about, commit="abc", seed=17, versions={"python": "3.11"},
                      hardware={"device": "cpu"}, started="2026-01-01T00:00:00+00:00", seconds=61.0)  # fmt: skip
    others = {track: not_run(track, "too little", "more") for track in ("track_b", "track_c")}
    return assemble(run=run, failures=[], track_a=record_track_a(rows, **OPTIONS), **others)


@pytest.fixture
def run(tmp_path) -> Path:
    """The folder of a finished run of Track A alone."""
    rows = files(0.3)
    write_items(tmp_path, "track_a/files", rows)
    write_json(tmp_path / "report/metrics.json", written(tmp_path, rows))
    write_json(tmp_path / FACTS, CARD_FACTS)
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Title\n\n## Track A: x\n\nwords")]
    )
    nbformat.write(notebook, tmp_path / "executed.ipynb")
    return tmp_path


def test_figures_card_and_page_come_back(run) -> None:
    before = (run / "report/metrics.json").read_bytes()
    rebuild_report(run)
    assert (run / "report/metrics.json").read_bytes() == before
    card = with_tasks_set_aside(render_data_card(CARD_FACTS), read_json(run / "report/metrics.json"))
    assert (run / "report/data_card.md").read_text() == (run / "README.md").read_text() == card
    page = BeautifulSoup((run / "report/exports/ML_Assignment_Part2.html").read_text(), "html.parser")
    assert page.h1.get_text() == "Track A improved; B and C were not run"
    assert "words" in page.find(id="track-a").get_text()


def test_figures_come_from_the_rows_and_not_from_the_file(run) -> None:
    right = read_json(run / "report/metrics.json")
    other = written(run, files(-0.3))
    assert other["track_a"]["verdict"] == "regressed"
    write_json(run / "report/metrics.json", other)
    assert rebuilt_metrics(run)["track_a"]["metrics"] == right["track_a"]["metrics"]
    rebuild_report(run)
    assert read_json(run / "report/metrics.json") == right
    assert "Track A improved" in (run / "report/exports/ML_Assignment_Part2.html").read_text()


def test_what_no_rows_hold_stays(run) -> None:
    metrics = read_json(run / "report/metrics.json")
    added = copy.deepcopy(metrics["track_a"]["metrics"]["perplexity"])
    metrics["track_a"]["metrics"]["mine"] = added
    metrics["track_a"]["data"]["added_metrics"] = ["mine"]
    metrics["run"]["warnings"] = ["kept"]
    write_json(run / "report/metrics.json", metrics)
    rebuild_report(run)
    assert read_json(run / "report/metrics.json") == metrics


def test_a_profile_keeps_its_names(run) -> None:
    (run / "report/metrics.json").rename(run / "report/metrics.smoke.json")
    rebuild_report(run)
    assert sorted(path.name for path in (run / "report").rglob("*.*")) == [
        "ML_Assignment_Part2.smoke.html", "data_card.smoke.md", "metrics.smoke.json",
    ]  # fmt: skip


def test_what_an_older_run_lacks_is_said(run) -> None:
    (run / FACTS).unlink()
    (run / "executed.ipynb").unlink()
    lines = rebuild_report(run)
    assert any(FACTS in line and "stays" in line for line in lines)
    assert any("executed.ipynb" in line for line in lines)
    assert not list(run.glob("report/exports/*"))


def test_a_folder_that_is_no_run_or_torn_is_refused(run, tmp_path) -> None:
    with pytest.raises(MetricsError, match="there is no folder"):
        rebuild_report(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MetricsError, match=r"holds no metrics\.json"):
        rebuild_report(tmp_path / "empty")
    before = (run / "report/metrics.json").read_bytes()
    rows = run / "track_a/files.jsonl"
    rows.write_text(json.dumps({"path": "a.py"}) + "\n")
    with pytest.raises(MetricsError, match="track_a cannot be rebuilt from its rows"):
        rebuild_report(run)
    rows.unlink()
    with pytest.raises(MetricsError, match="track_a cannot be rebuilt from its rows"):
        rebuild_report(run)
    assert (run / "report/metrics.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", '{"run": {"seed"', "nonsense", "[1]", '{"cells": 3}'])
@pytest.mark.parametrize("name", ["report/metrics.json", FACTS, "executed.ipynb"])
def test_a_torn_file_of_the_run_is_named_in_one_line_and_nothing_is_written(
    run, command, name, content
) -> None:
    (run / name).write_text(content)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    words = [("report", "--run", str(run))]
    if name == "report/metrics.json":
        words += [("verify", "--run", str(run)), ("compare", str(run)), ("compare", str(run / name))]
    for given in words:
        done = command(*given)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
