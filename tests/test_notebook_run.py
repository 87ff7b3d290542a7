"""The notebook itself, executed as `make run PROFILE=smoke` does it, without any network."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import jsonschema
import nbformat
import pytest
from smoke_run import ROOT, finished_run

from helpers.data.card.data_sets import DATA_SETS
from helpers.report.metrics import recompute, validate
from helpers.report.rebuild import rebuild_report
from helpers.run.workspace import read_json, read_jsonl
from helpers.tools.verify_pairs import verify_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a run and what it printed."""
    return finished_run(tmp_path_factory)


def test_every_pair_and_task_holds_when_run_again_from_its_file(finished) -> None:
    out, _ = finished
    (run,) = (out / "runs").iterdir()
    checked = verify_run(run, workers=2)
    assert checked is not None
    assert checked.problems == ()
    assert checked.items["train: fix_bug"] > 0


def test_reports_are_whole_and_named_after_the_profile(finished) -> None:
    out, _ = finished
    metrics = read_json(out / "metrics.smoke.json")
    jsonschema.validate(metrics, read_json(ROOT / "helpers/report/metrics.schema.json"))
    validate(metrics)
    assert metrics["run"]["profile"] == "smoke"
    assert {metrics[t]["verdict"] for t in ("track_a", "track_b", "track_c")}.isdisjoint({"not_run"})
    assert 10 <= len(metrics["failures"]) <= 20
    for track in ("track_a", "track_b", "track_c"):
        assert metrics[track]["cost"]["memory_by_stage"]["train"].keys() >= {"planned_gib", "peak_gib"}
    card = (out / "data_card.smoke.md").read_text()
    assert card.startswith("---\n")
    assert "Made by the profile `smoke`" in card
    assert not list(out.glob("metrics.json"))


def test_every_figure_follows_from_the_per_item_rows(finished) -> None:
    (run,) = (finished[0] / "runs").iterdir()
    assert recompute(run) == []
    rows = (run / "track_a" / "files.jsonl").read_text().splitlines(keepends=True)
    spoiled = re.sub(r'"nll_after": [\d.]+', '"nll_after": 1.0', rows[0])
    (run / "track_a" / "files.jsonl").write_text("".join([spoiled, *rows[1:]]))
    assert recompute(run) != []
    (run / "track_a" / "files.jsonl").write_text("".join(rows))


def test_the_reports_are_rebuilt_as_they_were_from_the_run_folder_alone(finished, tmp_path) -> None:
    (run,) = (finished[0] / "runs").iterdir()
    copied = Path(shutil.copytree(run, tmp_path / run.name))
    before = {
        path.relative_to(run): path.read_bytes()
        for path in [*(run / "report").rglob("*.*"), run / "README.md"]
        if path.is_file()
    }
    assert before[Path("README.md")] == before[Path("report/data_card.smoke.md")]
    for name in before:
        if name.suffix != ".json":
            (copied / name).unlink()
    rebuild_report(copied)
    assert {name: (copied / name).read_bytes() for name in before} == before


def _files(run, data_set):
    return [run / path for path in data_set.files.values()]


def test_the_saved_data_load_by_their_card_with_every_value_as_it_was_saved(finished, tmp_path) -> None:
    import datasets

    (run,) = (finished[0] / "runs").iterdir()
    has_rows = {name: any(map(read_jsonl, _files(run, one))) for name, one in DATA_SETS.items()}
    assert [name for name, some in has_rows.items() if not some] in ([], ["rehearsed_answers"])
    names = {name for name, some in has_rows.items() if some}
    assert set(datasets.get_dataset_config_names(str(run))) == names
    for name in names:
        read = datasets.load_dataset(str(run), name, cache_dir=str(tmp_path))
        for split, rows in read.items():
            assert rows.to_list() == read_jsonl(run / DATA_SETS[name].files[split]), f"{name}, {split}"
    default = datasets.load_dataset(str(run), cache_dir=str(tmp_path))
    assert default["train"].to_list() == read_jsonl(run / "track_b/data/train.jsonl")


def test_page_stands_alone_and_says_what_it_is(finished) -> None:
    page = (finished[0] / "exports" / "ML_Assignment_Part2.smoke.html").read_text()
    assert "profile smoke" in page
    assert "<link" not in page
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    ours = [(ROOT / "helpers/report" / name).read_text() for name in ("page.js", "gallery.js")]
    assert {script.strip() for script in scripts} == {script.strip() for script in ours}
    assert len(page.encode()) < 3_000_000
    figures = re.findall(r"<figure[^>]*>\s*<svg[^>]*>", page)
    assert len(figures) >= 6
    assert all('role="img"' in figure and re.search(r'aria-label="[^"]{20,}"', figure) for figure in figures)
    assert all('src="data:' in image and 'alt="' in image for image in re.findall(r"<img[^>]*>", page))
    assert "Traceback (most recent call last)" not in page
    assert str(ROOT) not in page


def test_executed_notebook_ran_from_top_to_bottom(finished) -> None:
    (path,) = (finished[0] / "runs").glob("*/executed.ipynb")
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not [o for c in cells for o in c.outputs if o.output_type == "error"]


def test_terminal_tells_sections_and_ends_with_the_table(finished) -> None:
    printed = finished[1]
    for section in ("Setup", "Track A", "Track B", "Track C", "Error analysis"):
        assert section in printed
    assert "elapsed, about" in printed
    assert "bits per byte" in printed
    assert "pass@1" in printed
    assert "MRR@10" in printed
    assert "metrics.smoke.json" in printed


def test_the_kept_models_load_as_the_readme_says(finished) -> None:
    from peft import PeftModel
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModelForCausalLM

    (run,) = (finished[0] / "runs").iterdir()
    base = AutoModelForCausalLM.from_pretrained(ROOT / "helpers/models/tiny_code_lm")
    for track in ("track_a", "track_b"):
        adapted = PeftModel.from_pretrained(base, str(run / track / "train" / "adapter"))
        assert any("lora" in name for name, _ in adapted.named_parameters())
        base = adapted.unload()
    embedder = SentenceTransformer(str(run / "track_c" / "train" / "embedder"))
    assert embedder.encode(["shortest path"]).shape == (1, 384)
