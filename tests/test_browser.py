"""The page in a real browser: nothing loaded, nothing cut off, readable for everyone, whole without scripts.

Needs Chromium (Debian's package `chromium`) and the extra `browser`. Screenshots of every page stay in
`build/screenshots/` for a person to look at.
"""

import copy
import itertools
import json
import os
import shutil
from pathlib import Path

import nbformat
import pytest

from helpers.fixed_budget.budget_report import report_blocks
from helpers.fixed_budget.recipes import Change
from helpers.fixed_budget.results import read_run
from helpers.fixed_budget.rungs import Comparison, Rung
from helpers.records import Failure
from helpers.report.entries import entry_verdict, not_run
from helpers.report.export import html_document, notebook_page
from helpers.report.gallery import Evidence, gallery
from helpers.report.typeset import html_page

ROOT = Path(__file__).parents[1]
SHOTS = ROOT / "build" / "screenshots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (360, 390, 768, 1440, 1920)
LONG = "a_very_long_name_of_a_function_that_no_screen_holds." * 6

playwright = pytest.importorskip("playwright.sync_api", reason="pip install '.[browser]' to look at the page")
axe_playwright = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="pip install '.[browser]'"
)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.slow,
]

text, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
FIGURE = (
    '<figure><svg role="img" aria-label="Before 1, after 2." viewBox="0 0 200 40"><circle cx="20" cy="20" r="9"/>'
    "</svg><figcaption>It doubles.</figcaption></figure>"
)
WIDE = (
    "<table class='dataframe'><tr>"
    + "".join(f"<th>column {i} of many</th>" for i in range(20))
    + "</tr></table>"
)


def shown(*outputs: tuple[str, str]) -> nbformat.NotebookNode:
    """Return a code cell with the given outputs, each a MIME type and its data."""
    cell = code(
        f"# {LONG}\nvalue = {{'key': [1, 2.5, None]}}  # a comment\nprint(f'{{value!r}}')\n@decorated\nclass C: pass"
    )
    cell.outputs = [nbformat.v4.new_output("display_data", data={kind: data}) for kind, data in outputs]
    cell.outputs.append(
        nbformat.v4.new_output("stream", name="stdout", text=f"printed {LONG}\n\x1b[31mred\x1b[0m")
    )
    return cell


def notebook(sections: list[str]) -> nbformat.NotebookNode:
    """Return a notebook whose sections hold what a run's notebook holds, and longer."""
    cells = [
        text("# A page\n\nIt begins.\n\n- one\n- two"),
        text("## Setup\n\nA form."),
        code("PROFILE = 'cpu'"),
    ]
    for title in sections:
        cells += [
            text(
                f"## {title}\n\nWords, `{LONG}` and [a link](https://example.org).\n\n| a | b |\n|---|---|\n| {LONG} |"
            ),
            shown(
                ("text/html", FIGURE),
                ("text/html", WIDE),
                ("text/html", f'<div class="card"><h4>Card</h4><pre>{LONG}</pre></div>'),
            ),
            text(f"### {LONG}\n\n```text\n{LONG}\n```\n\n##### Deep"),
        ]
    return nbformat.v4.new_notebook(cells=cells)


CASES = [Failure(**row) for row in json.loads((ROOT / "metrics.json").read_text())["failures"]]


def with_gallery() -> nbformat.NotebookNode:
    """Return `notebook` with the gallery of the committed run's failures, one with results and one with tests."""
    known = {
        ("track_b", case.item_id): Evidence(
            title=f"fix bug: {LONG}", is_code=True, tests=f"assert {LONG}", output=LONG
        )
        for case in CASES[::2]
    }
    known |= {
        ("track_c", case.item_id): Evidence(title="A query", path="a.py", results=((LONG, 0.5, True),))
        for case in CASES
    }
    made = notebook(SECTIONS)
    place = next(i for i, cell in enumerate(made.cells) if cell.source.startswith("## Error analysis"))
    made.cells.insert(place + 1, shown(("text/html", gallery(CASES, [*CASES, *CASES], known).data)))
    return made


SECTIONS = ["Corpus and data card", "Track A: a", "Track B: b", "Track C: c", "Error analysis", "Summary"]


def pages() -> dict[str, str]:
    """Return name -> HTML: the committed run, one that got worse, one without any track, and the lab's page."""
    metrics = json.loads((ROOT / "metrics.json").read_text())
    worse = copy.deepcopy(metrics)
    for name in ("track_a", "track_b", "track_c"):
        track = worse[name]
        entry = track["metrics"][track["primary_metric"]]
        low, high = sorted(-x for x in entry["delta"]["ci95"])
        entry["delta"] |= {"value": -entry["delta"]["value"], "ci95": [low, high]}
        entry["before"], entry["after"] = entry["after"], entry["before"]
        track["verdict"] = entry_verdict(entry)
    worse["run"]["warnings"] = ["No licence was found.", f"1 file left out: {LONG}"]
    nothing = copy.deepcopy(metrics) | {"tasks_set_aside": []}
    nothing |= {name: not_run(name, f"only {LONG}", "10 files") for name in ("track_a", "track_b", "track_c")}
    made = {"run": metrics, "worse": worse, "nothing": nothing}
    lab = {"spec": "docstrings", "titles": "6,000", "scale": "small", "conclusion": "A ratio of 1.5.",
           "header": ("Run", "Loss", *(f"Column {i}" for i in range(9))), "rows": [[LONG, *map(str, range(10))]],
           "hardware": "cpu", "commit": "abc"}  # fmt: skip
    return {
        **{name: html_document(with_gallery() if name == "run" else notebook(SECTIONS), one) for name, one in made.items()},
        "budget": budget_report(),
        "lab": notebook_page(notebook(["The rules", "Baseline"]), "lab_page.html.j2", folder=ROOT / "helpers/fixed_budget", **lab),
    }  # fmt: skip


def budget_report() -> str:
    """Return the lab's report of the committed runs, with some of their changes."""
    kept = json.loads((ROOT / "exports/fixed_budget_report.json").read_text())
    ends = {name: tuple(map(read_run, kept[name])) for name in ("baseline", "improved")}
    runs = {run.name: run for some in ends.values() for run in some}
    rungs = []
    for rung in kept["ladder"][:14]:  # more than a table shows unfolded
        run = read_run(rung["run"])
        runs[run.name] = run
        rungs.append(Rung(Change(**rung["change"]), run, runs[rung["against"]]))
    return html_page("Fixed-budget pretraining", report_blocks(Comparison(**ends), rungs))


NAMES = ("run", "worse", "nothing", "lab", "budget")


@pytest.fixture(scope="module")
def addresses(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    for name, html in pages().items():
        (folder / f"{name}.html").write_text(html)
    return {name: (folder / f"{name}.html").as_uri() for name in NAMES}


@pytest.fixture(scope="module")
def browser():
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=options)
        yield started
        started.close()


@pytest.fixture
def opened(browser, addresses):
    """Open a page by name; at its end, nothing may have been requested, and no error have been reported."""
    contexts, said = [], []

    def open_page(name: str, width: int = 1440, height: int = 900, **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        requested: list[str] = []
        page.goto(addresses[name])
        outside = [url for url in requested if not url.startswith("data:") and url != addresses[name]]
        assert outside == []
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def unfold(page) -> None:
    page.evaluate("document.querySelectorAll('main details').forEach((one) => one.setAttribute('open', ''))")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_wider_than_the_screen_folded_or_not(opened, name) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page = opened(name)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        if width in (360, 1440):
            page.screenshot(path=SHOTS / f"{name}-{width}.png", full_page=True)
        for _ in range(2):
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
            unfold(page)
        page.evaluate(
            "document.querySelectorAll('main details').forEach((one) => one.removeAttribute('open'))"
        )


def serious_barriers(page) -> list[tuple[str, str, str]]:
    """Return what axe-core calls serious or critical: rule, element, and what to do."""
    return [
        (rule["id"], node["html"][:160], node.get("failureSummary", "")[:300])
        for rule in axe_playwright.Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"][:3]
    ]


@pytest.mark.parametrize(("name", "width", "scheme"), [
    ("run", 1440, "light"), ("run", 360, "dark"), ("worse", 1440, "dark"), ("nothing", 360, "light"),
    ("lab", 1440, "light"), ("lab", 360, "dark"), ("budget", 360, "light"), ("budget", 1440, "dark"),
])  # fmt: skip
def test_no_serious_barrier_with_everything_unfolded(opened, name, width, scheme) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page = opened(name, width, color_scheme=scheme)
    page.screenshot(path=SHOTS / f"{name}-{width}-{scheme}.png")
    unfold(page)
    assert serious_barriers(page) == []


def test_planted_barriers_are_found(opened) -> None:
    page = opened("nothing", 360)
    page.evaluate("""document.querySelector('main').insertAdjacentHTML('beforeend',
        '<p style="color: #ccc; background: #fff">faint</p><img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=">' +
        '<div style="width: 500px">wide</div>')""")
    assert {rule for rule, *_ in serious_barriers(page)} == {"color-contrast", "image-alt"}
    assert page.evaluate("document.documentElement.scrollWidth") > 360


@pytest.mark.parametrize("name", NAMES)
def test_headings_form_an_outline_and_every_picture_says_what_it_shows(opened, name) -> None:
    page = opened(name)
    levels = page.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4,h5,h6')].map((one) => +one.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    mute = "[...document.querySelectorAll('img:not([alt]), img[alt=\"\"], svg:not([aria-label])')].map((one) => one.outerHTML)"
    assert page.evaluate(mute) == []
    dead = "[...document.querySelectorAll('a[href^=\"#\"]')].map((a) => a.hash.slice(1)).filter((id) => !document.getElementById(id))"
    assert page.evaluate(dead) == []


@pytest.mark.parametrize("height", [844, 900])
def test_the_verdicts_are_on_the_first_screen(opened, height) -> None:
    width = 390 if height == 844 else 1440
    page = opened("run", width, height)
    for verdict in page.query_selector_all(".verdict-card .verdict"):
        box = verdict.bounding_box()
        assert box["y"] + box["height"] <= height


def test_the_navigation_stays_in_view_and_folds_on_phones(opened) -> None:
    page = opened("run")
    page.evaluate("document.getElementById('track-c').scrollIntoView()")
    link = page.locator("nav.side a[href='#track-b']")
    assert 0 <= link.bounding_box()["y"] < 900
    link.click()
    assert page.url.endswith("#track-b")
    phone = opened("run", 360, 800)
    phone.evaluate("document.getElementById('track-c').scrollIntoView()")
    summary = phone.locator("nav.menu summary")
    assert 0 <= summary.bounding_box()["y"] < 60
    link = phone.locator("nav.menu a[href='#track-b']")
    assert not link.is_visible()
    summary.click()
    link.click()
    assert phone.url.endswith("#track-b")
    assert not link.is_visible()  # the menu has folded itself away
    top = phone.locator("#track-b h2").bounding_box()["y"]
    assert summary.bounding_box()["height"] <= top < 400  # not hidden under the menu


def test_without_scripts_everything_can_be_read(opened) -> None:
    page = opened("run", 360, 800, java_script_enabled=False)
    rows = page.locator("#track-b details.whole tr").first
    assert not rows.is_visible()
    page.locator("#track-b details.whole > summary").first.click()
    assert page.locator("#track-b details.whole td").first.is_visible()
    page.locator("nav.menu summary").click()
    assert page.locator("nav.menu a").first.is_visible()


def test_it_prints_without_navigation_and_with_whole_tables(opened) -> None:
    page = opened("run", 800)
    page.emulate_media(media="print")
    assert not page.locator("nav.menu").is_visible()
    assert not page.locator("details.source").first.is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#track-b details.whole td").first.is_visible()
    (SHOTS / "run.pdf").write_bytes(page.pdf(format="A4"))
    assert (SHOTS / "run.pdf").stat().st_size > 10_000


def seen(page) -> list[str]:
    """Return the anchors of the cases that can be seen."""
    return [one.get_attribute("id") for one in page.locator(".gallery .case").all() if one.is_visible()]


@pytest.mark.parametrize("width", [360, 1440])
def test_the_gallery_filters_by_track_and_by_words(opened, width) -> None:
    page = opened("run", width)
    controls = page.locator(".gallery .controls")
    track, search, told = (controls.locator(name) for name in ("select", "input", "output"))
    assert len(seen(page)) == len(CASES)
    for name in sorted({case.track for case in CASES}):
        track.select_option(name)
        of_track = [case for case in CASES if case.track == name]
        assert len(seen(page)) == len(of_track) < len(CASES)
        own = f"failure-{name.removeprefix('track_')}-"
        assert all(anchor.startswith(own) for anchor in seen(page))
        assert told.inner_text() == f"{len(of_track)} of {len(CASES)} cases"
        assert [one.is_visible() for one in page.locator(".gallery section").all()].count(True) == 1
    page.locator(".gallery").scroll_into_view_if_needed()
    page.screenshot(path=SHOTS / f"gallery-{width}.png")
    track.select_option("")
    search.fill(f"  {CASES[0].item_id.upper()} ")
    named = page.locator(".gallery .case", has_text=CASES[0].item_id)
    assert seen(page) == [named.get_attribute("id")]
    search.fill("words that no case holds")
    assert (seen(page), told.inner_text()) == ([], f"0 of {len(CASES)} cases")
    assert not any(one.is_visible() for one in page.locator(".gallery h4").all())
    search.fill("")
    assert len(seen(page)) == len(CASES)


def test_an_address_opens_its_case(opened) -> None:
    page = opened("run")
    last = page.locator(".gallery .case").last
    anchor = last.get_attribute("id")
    assert last.get_attribute("open") is None
    page.evaluate(f"location.hash = {anchor!r}")
    page.wait_for_function(f"document.getElementById({anchor!r}).open")
    assert last.locator("pre").first.is_visible()


def test_without_scripts_every_case_can_be_read(opened) -> None:
    page = opened("run", 360, 800, java_script_enabled=False)
    assert not page.locator(".gallery .controls").is_visible()
    assert len(seen(page)) == len(CASES)
    case = page.locator(".gallery .case").last
    case.locator("summary").first.click()
    assert case.locator("pre").first.is_visible()
