"""The report on finished runs alone, which are found by what they ran, not by their folders' names."""

import dataclasses
import re
import sys

import pytest

from helpers.fixed_budget.budget_report import write_report
from helpers.fixed_budget.experiment import open_experiment
from helpers.fixed_budget.lab_tables import conclusion
from helpers.fixed_budget.recipes import LADDER, RECIPES, RecipeError
from helpers.fixed_budget.results import runs_folder
from helpers.fixed_budget.rungs import ladder_recipes
from helpers.run.workspace import to_plain, write_json
from tests.test_lab_report import made

KEPT = [change for change in LADDER if change.kept]
RUNGS = {change.name: candidate for change, candidate, _ in ladder_recipes()}


@pytest.fixture
def opened(tmp_path):
    """An experiment, and a function that puts a finished run of a recipe into its folder."""
    titles = tmp_path / "titles.txt"
    titles.write_text("".join(f"title number {i}\n" for i in range(40)))
    opened = open_experiment(f"file:{titles}", "small", out=tmp_path)

    def lay(recipe, loss, *, seed=1337, folder=None, sha256=opened.titles.sha256):
        run = made(recipe.name, loss, seed=seed)
        run = dataclasses.replace(
            run, recipe=to_plain(opened.scale.applied(recipe)), data=run.data | {"sha256": sha256}
        )
        place = runs_folder(opened.runs, opened.titles.spec, opened.scale)
        place = place / (folder or f"{len(list(place.glob('*')))}-{seed}")
        place.mkdir(parents=True)
        write_json(place / "result.json", run)

    return opened, lay


def test_finished_runs_are_reported_and_missing_ones_named(opened, tmp_path) -> None:
    opened, lay = opened
    lay(RECIPES["baseline"], 2.0)
    lay(RUNGS[KEPT[0].name], 1.5)
    lay(RUNGS[KEPT[2].name], 1.1)  # what it is compared with has not been run
    lay(RECIPES["improved"], 1.0)
    lay(RUNGS[KEPT[1].name], 0.1, folder="begun-1337.partial")
    lay(RUNGS[KEPT[1].name], 0.1, sha256="of other titles")
    comparison, rungs = opened.load_finished()
    assert comparison.ratio == 2.0
    assert comparison.spread is None
    assert [(rung.change.name, rung.difference) for rung in rungs] == [(KEPT[0].name, -0.5)]
    page = write_report(comparison, rungs, tmp_path)[0].read_text()
    missing = re.search(r"Not in the table, [^:]*: (.*?)\.<", page)[1].split(", ")
    assert set(missing) == set(", ".join(c.name for c in LADDER[1:]).split(", "))


def test_the_spread_comes_from_the_highest_kept_rung_with_several_seeds(opened) -> None:
    opened, lay = opened
    lay(RECIPES["baseline"], 2.0)
    lay(RECIPES["improved"], 1.0)
    below = RUNGS[KEPT[-2].name]
    for seed, loss in ((1338, 1.27), (1337, 1.25), (1339, 1.23)):
        lay(dataclasses.replace(below, name="as it was called then"), loss, seed=seed)
        lay(RUNGS[KEPT[0].name], 9 * loss, seed=seed)
    comparison, rungs = opened.load_finished()
    assert [run.seed for run in comparison.repeated] == [1337, 1338, 1339]
    assert comparison.spread == pytest.approx(0.02)
    told = conclusion(comparison)
    assert "a ratio of 2.000, each with one seed" in told
    assert f"over 3 seeds the ladder up to {below.name} gives 1.2500 ± 0.0200" in told
    assert "1.2300 to 1.2700; its first seed gives a ratio of 1.600" in told
    assert [rung.change.name for rung in rungs] == [KEPT[0].name, KEPT[-1].name]
    for seed in (1338, 1339):
        lay(RECIPES["improved"], 1.0, seed=seed)
    comparison, _ = opened.load_finished()
    assert len(comparison.improved) == 3
    assert comparison.repeated == ()


def test_a_report_needs_runs_of_both_recipes(opened, tmp_path, monkeypatch, capsys) -> None:
    from helpers.__main__ import main

    opened, lay = opened
    lay(RECIPES["baseline"], 2.0)
    lay(RECIPES["improved"], 1.0, seed=1338)
    with pytest.raises(RecipeError, match="no finished run of the improved recipe with seed 1337 in"):
        opened.load_finished()
    command = ["lab", "--data", opened.data, "--scale", "small", "--out", str(tmp_path), "--finished"]
    monkeypatch.setattr(sys, "argv", ["helpers", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: no finished run of the improved recipe")
    assert not (tmp_path / "exports").exists()
    lay(RECIPES["improved"], 1.0)
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "a ratio of 2.000" in capsys.readouterr().out
    assert len(list((tmp_path / "exports").iterdir())) == 3
