"""Comparing runs: one row per run and track, and a note where runs are not comparable."""

import copy
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from helpers.report.compare import CompareError, comparison
from helpers.report.compare_page import compare_page
from helpers.report.entries import not_run, run_section
from helpers.report.metrics import assemble, record_track_a, record_track_c, write_items
from helpers.report.tables import number
from helpers.run.workspace import write_json

ROOT = Path(__file__).parents[1]


@pytest.fixture
def files(tmp_path):
    """The committed metrics and a copy with another value, seed and Track B not run."""
    one = json.loads((ROOT / "metrics.json").read_text())
    other = copy.deepcopy(one)
    other["run"] |= {"run_id": "other", "seed": one["run"]["seed"] + 1}
    other["track_a"]["metrics"]["bits_per_byte"]["after"]["value"] = 0.4567
    other["track_b"] |= {"verdict": "not_run", "reason": "too few functions", "metrics": {}}
    for name, metrics in (("one", one), ("other", other)):
        (tmp_path / f"{name}.json").write_text(json.dumps(metrics))
    return tmp_path


def test_every_run_has_a_row_in_every_track(files):
    page = comparison([f"old={files / 'one.json'}", f"new={files / 'other.json'}"])
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    assert [row[1] for row in rows] == ["old", "new"] * 3
    assert rows[1][4] == "0.457"
    assert "not run: too few functions" in rows[3][-1]


def test_runs_that_are_not_comparable_are_marked(files):
    same = comparison([f"a={files / 'one.json'}", f"b={files / 'one.json'}"])
    assert "Not comparable" not in same
    page = comparison([str(files / "one.json"), str(files / "other.json")])
    assert page.count("Not comparable") == 1
    assert "the seed differs" in page


def test_a_track_with_other_held_out_items_is_marked(files):
    """Other settings of the data, or another version of it, make other tasks of the same corpus and seed."""
    other = json.loads((files / "one.json").read_text())
    other["track_c"]["data"]["sha256"] = "0" * 64
    (files / "other.json").write_text(json.dumps(other))
    page = comparison([f"a={files / 'one.json'}", f"b={files / 'other.json'}"])
    assert page.count("Not comparable") == 1
    assert "the held-out items of Track C · embedding tuning differ" in page


def test_each_run_names_models_and_changed_settings_but_no_absolute_paths(files):
    other = json.loads((files / "other.json").read_text())
    other["track_a"]["model"] = str(files / "my_model")
    other["track_b"]["model"] = f"gguf:{files / 'mine.gguf'}"
    other["run"]["settings_changed"] = ["track_c.seeds=1"]
    (files / "other.json").write_text(json.dumps(other))
    one, two = comparison([f"a={files / 'one.json'}", f"b={files / 'other.json'}"]).splitlines()[-2:]
    assert json.loads((files / "one.json").read_text())["track_a"]["model"] in one
    assert "with" not in one
    assert "models my_model, gguf:mine.gguf, " in two
    assert two.endswith(", with track_c.seeds=1")
    assert str(files) not in two


def test_a_path_may_hold_an_equals_sign(files, monkeypatch):
    folder = files / "lr=1e-4"
    folder.mkdir()
    (files / "one.json").rename(folder / "metrics=final.json")
    (folder / "other.json").write_text((files / "other.json").read_text())
    monkeypatch.chdir(files)
    run_id = json.loads((folder / "metrics=final.json").read_text())["run"]["run_id"]
    for given, name in (
        ("lr=1e-4/metrics=final.json", run_id),  # no name: the run's id
        ("before=lr=1e-4/metrics=final.json", "before"),
        ("lr=1e-4=lr=1e-4/metrics=final.json", "lr=1e-4"),  # a name may hold one as well
    ):
        page = comparison([given, "new=lr=1e-4/other.json"])
        assert f"| {name} |" in page
        assert "| new |" in page
    with pytest.raises(CompareError, match=r"lr=2/metrics\.json"):  # the path as given, not its last part
        comparison(["lr=2/metrics.json"])


def test_files_below_the_home_folder_are_found(files, monkeypatch):
    monkeypatch.setenv("HOME", str(files))
    found = [f"old={files / 'one.json'}", str(files / "other.json")]
    assert comparison(["old=~/one.json", "~/other.json"]) == comparison(found)


def test_files_that_are_no_run_are_refused(files):
    (files / "torn.json").write_text("{")
    (files / "list.json").write_text("[]")
    (files / "deep.json").write_text("[" * 100_000)
    one = json.loads((files / "one.json").read_text())
    for name, wrong in (
        ("empty.json", {key: {} for key in one}),
        ("number.json", dict.fromkeys(one, 1)),
        ("track.json", one | {"track_b": {"verdict": "improved"}}),
        ("seedless.json", one | {"run": {"run_id": "x"}}),
    ):
        (files / name).write_text(json.dumps(wrong))
        with pytest.raises(CompareError, match=f"{name} is damaged, or of another version"):
            comparison([str(files / name)])
    for name in ("torn.json", "list.json", "deep.json", "missing.json", "n" * 300):
        with pytest.raises(CompareError, match=name) as refused:
            comparison([str(files / name)])
        assert "--resume" not in str(refused.value)  # it may be no run's file at all
        assert str(refused.value).count(name) == 1
    with pytest.raises(CompareError, match="two runs are called x"):
        comparison([f"x={files / 'one.json'}", f"x={files / 'other.json'}"])


def test_comparing_loads_no_library_of_models() -> None:
    """They take many seconds to load, and only JSON is read."""
    code = (
        "import sys, helpers.report.compare_page\n"
        "print({'torch', 'transformers', 'peft', 'sentence_transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- the HTML page: paired tests on the per-item rows -----------------------------------------------------------------


def finished_run(folder: Path, run_id: str, better: float) -> Path:
    """Write the folder of a run of Tracks A and C on 20 files and queries; `better` shifts its adapted models."""
    rows_a = [
        {"path": f"{i}.py", "n_bytes": 100 + i, "n_tokens": 30, "nll_before": 90.0, "nll_after": 80.0 - better * (5 + i % 3)}
        for i in range(20)
    ]  # fmt: skip
    rows_c = [
        {"id": f"q{i}", "query_id": f"q{i}", "kind": "how_to", "groups": [], "baselines": {}, "before": {"mrr@10": 0.1},
         "after": {"mrr@10": 0.5 + (i % 2) * 0.1}}
        for i in range(20)
    ]  # fmt: skip
    options = {"model": "m", "seed": 1, "samples": 500, "cost": {"seconds": 1.0}}
    sections = {
        "track_a": record_track_a(rows_a, **options),
        "track_b": not_run("track_b", "too few functions", "more"),
        "track_c": record_track_c(rows_c, **options),
    }
    about = {"spec": "path:mine", "version": "", "files": 20, "sha256": "0" * 64}
    run = run_section(profile="cpu", run_id=run_id, corpus=about, commit="abc", seed=1, versions={"python": "3.11"},
                      hardware={"device": "cpu"}, started="2026-01-01T00:00:00+00:00", seconds=61.0)  # fmt: skip
    place = folder / "runs" / run_id
    for name, rows in (("track_a/files", rows_a), ("track_c/queries", rows_c)):
        write_items(place, name, rows)
    for name, section in sections.items():
        if section["verdict"] != "not_run":
            write_json(place / name / "section.json", section)
    write_json(place / "report/metrics.json", assemble(run=run, failures=[], **sections))
    (folder / f"{run_id}.json").write_text((place / "report/metrics.json").read_text())
    return place


def cards_of(page: str) -> list[str]:
    return [
        card.get_text(" ", strip=True) for card in BeautifulSoup(page, "html.parser").select(".verdict-card")
    ]


def test_the_page_tests_the_second_run_against_the_first_on_the_same_items(tmp_path):
    old, new = finished_run(tmp_path, "old", 0.0), finished_run(tmp_path, "new", 1.0)
    page = compare_page([str(old), str(new)])
    a, b, c = cards_of(page)
    assert "✓ improved" in a
    assert "n = 20" in a
    change = -sum(5 + i % 3 for i in range(20)) / math.log(2) / sum(100 + i for i in range(20))
    assert number(change, signed=True) in a  # by hand: the gain in nats over bits and bytes
    assert "the track was not run in both" in b
    assert "≈ no detectable difference" in c
    text = BeautifulSoup(page, "html.parser").get_text(" ", strip=True)
    assert "Changed beyond noise: 2 of 2 metrics" in text  # bits per byte and perplexity
    assert "None of 1 metrics changed beyond noise" in text
    assert "✗ regressed" in cards_of(compare_page([str(new), str(old)]))[0]
    assert "≈ no detectable difference" in cards_of(compare_page([f"x={old}", f"y={old}"]))[0]


@pytest.mark.parametrize("form", ["folder", "report", "published"])
def test_rows_are_found_from_the_folder_or_either_metrics_file(tmp_path, form):
    places = [finished_run(tmp_path, name, better) for name, better in (("old", 0.0), ("new", 1.0))]
    given = {
        "folder": places,
        "report": [place / "report/metrics.json" for place in places],
        "published": [tmp_path / f"{place.name}.json" for place in places],
    }[form]
    assert "✓ improved" in cards_of(compare_page([str(place) for place in given]))[0]


def test_what_cannot_be_paired_is_said_and_not_tested(tmp_path):
    old, new = finished_run(tmp_path, "old", 0.0), finished_run(tmp_path, "new", 1.0)
    metrics = json.loads((new / "report/metrics.json").read_text())
    metrics["track_a"]["data"]["sha256"] = "f" * 64
    (new / "report/metrics.json").write_text(json.dumps(metrics))
    (new / "track_c/queries.jsonl").write_text('{"id": "another"}\n')
    a, _, c = cards_of(compare_page([str(old), str(new)]))
    assert "the held-out items differ" in a
    assert "cannot be read as pairs" in c
    alone = tmp_path / "elsewhere" / "metrics.json"
    alone.parent.mkdir()
    alone.write_text((old / "report/metrics.json").read_text())
    (a, *_) = cards_of(compare_page([f"x={alone}", str(new)]))
    assert "not tested" in a
    with pytest.raises(CompareError, match=r"holds no metrics\.json"):
        compare_page([str(alone.parent.parent / "runs"), str(new)])
