"""Arrange the rendered cells of a notebook as the sections of a page.

A section begins at each second-level heading. Where the page has an essay on a section, its figures come
first and the notebook's steps are folded below. The set-up, the form and bootstrap code, comes last.
"""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import dataclass, field

from bs4 import BeautifulSoup, Tag

SETUP = "setup"  # anchor of the section that goes to the end of the page
HEADINGS = re.compile(r"h[1-6]")


@dataclass
class Section:
    """One section of the page; the texts are HTML."""

    anchor: str
    title: str
    body: str  # the cells in their order, without the heading and the figures taken out
    figures: str = ""  # taken out of the cells
    card: str = ""  # the data card, taken out of the cells
    subsections: list[tuple[str, str]] = field(default_factory=list)  # anchor and text


def page_sections(body: str, with_figures_first: Container[str] = ()) -> tuple[str, list[Section]]:
    """Split rendered cells into what stands before the first section, and the sections.

    Args:
        body: the cells, as `cells.html.j2` renders them, with foreign elements removed.
        with_figures_first: anchors of the sections whose figures are taken out of their cells.

    Returns:
        The introduction without the notebook's title, and the sections, that of the set-up last.
    """
    soup = BeautifulSoup(body, "html.parser")
    _box_tables(soup)
    introduction: list[Tag] = []
    groups: list[tuple[Tag, list[Tag]]] = []
    for cell in soup.find_all("div", class_="cell", recursive=False):
        heading = cell.find("h2") if "text" in cell["class"] else None
        if heading is not None:
            groups.append((heading, [cell]))
        else:
            (groups[-1][1] if groups else introduction).append(cell)
    for cell in introduction:
        for title in cell.find_all("h1"):
            title.decompose()
    taken: set[str] = set()
    sections = [_section(heading, cells, with_figures_first, taken) for heading, cells in groups]
    sections.sort(key=lambda section: section.anchor == SETUP)
    return "\n".join(map(str, introduction)), sections


def _section(heading: Tag, cells: list[Tag], with_figures_first: Container[str], taken: set[str]) -> Section:
    title = _text(heading)
    anchor = _anchor(title, taken)
    earlier = heading.get("id")
    heading.decompose()
    figures: list[Tag] = []
    cards: list[Tag] = []
    _order_headings(cells)
    if anchor in with_figures_first:
        figures = [output.extract() for cell in cells for output in _figure_outputs(cell)]
        cards = [card.extract() for cell in cells for card in cell.find_all(class_="card")]
    subsections = [
        (str(tag["id"]), _text(tag))
        for cell in cells
        for tag in cell.find_all("h3", id=True)
        if not tag.find_parent(class_="card")
    ]
    kept = "\n".join(str(cell) for cell in cells if cell.get_text(strip=True) or cell.find(["img", "svg"]))
    if earlier and earlier != anchor:  # a link that was shared before the page had its own anchors
        kept = f'<span id="{earlier}"></span>{kept}'
    return Section(anchor, title, kept, _joined(figures), _joined(cards), subsections)


def _joined(tags: list[Tag]) -> str:
    return "\n".join(map(str, tags))


def _figure_outputs(cell: Tag) -> list[Tag]:
    """Return the outputs of a cell that are a figure and nothing else."""
    return [
        output
        for output in cell.find_all("div", class_="output", recursive=False)
        if output.find(["figure", "img", "svg"]) and not output.find(["table", "details", "pre", "h3"])
    ]


def _box_tables(soup: BeautifulSoup) -> None:
    """Put every outermost table into a box that scrolls by itself and takes the focus."""
    for table in soup.find_all("table"):
        if not table.find_parent("table") and not table.find_parent(class_="scroll"):
            table.wrap(soup.new_tag("div", attrs={"class": "scroll", "tabindex": "0"}))


def _order_headings(cells: list[Tag]) -> None:
    """Lower or raise headings so that below the section's own no level is skipped."""
    level = 2
    for cell in cells:
        for tag in cell.find_all(HEADINGS):
            wanted = max(3, int(tag.name[1]))
            level = min(wanted, level + 1)
            tag.name = f"h{level}"


def _anchor(title: str, taken: set[str]) -> str:
    """Return a short anchor that can be shared: "track-a" for "Track A: extended pretraining"."""
    base = re.sub(r"\W+", "-", title.partition(":")[0].lower()).strip("-") or "section"
    anchor, number = base, 1
    while anchor in taken:
        number += 1
        anchor = f"{base}-{number}"
    taken.add(anchor)
    return anchor


def _text(heading: Tag) -> str:
    return heading.get_text().replace("¶", "").strip()
