"""Typeset headings, paragraphs, tables and figures as one HTML page or one PDF.

Both formats are made from the same blocks, so they cannot disagree. The PDF is set by reportlab, in
pure Python: no browser, no TeX. Its font is DejaVu, which ships with matplotlib and has the symbols
that figures and names need. The same blocks always give the same bytes.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import cm
from reportlab.lib.utils import ImageReader
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    Image,
    KeepTogether,
    LongTable,
    Paragraph,
    SimpleDocTemplate,
    TableStyle,
)

from helpers.report.export import filled_page
from helpers.report.figure_style import figure_html, png_bytes

FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
LONG = 12  # rows; a longer table is folded on the page
PRINT_DPI = 220
LARGEST = 1.25  # times its own size, at which a figure is printed
NUMBER_CLASS = ' class="number"'
MARGIN = 2 * cm
WIDTH = A4[0] - 2 * MARGIN


@dataclass(frozen=True)
class Heading:
    """A section's title."""

    text: str


@dataclass(frozen=True)
class Text:
    """One paragraph of plain text."""

    text: str


@dataclass(frozen=True)
class TextTable:
    """Rows of text under a header."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    widths: tuple[float, ...]  # of the columns, relative to their sum
    numbers: frozenset[int] = frozenset()  # indices of right-aligned columns


@dataclass(frozen=True)
class Plot:
    """A figure, with its label as alternative text and its reading below it."""

    figure: Figure
    printed: Figure | None = None  # the same, laid out for paper


ReportBlock = Heading | Text | TextTable | Plot


def html_page(title: str, blocks: Sequence[ReportBlock]) -> str:
    """Render the report as one HTML page that loads nothing from elsewhere."""
    lead: list[str] = []
    sections: list[dict[str, str]] = []
    for block in blocks:
        if isinstance(block, Heading):
            anchor = re.sub(r"[^a-z0-9]+", "-", block.text.lower()).strip("-")
            sections.append({"title": block.text, "anchor": anchor, "body": ""})
        elif sections:
            sections[-1]["body"] += f"{_html(block)}\n"
        else:
            lead.append(_html(block))
    return filled_page("blocks_page.html.j2", title=title, lead="\n".join(lead), sections=sections, essays={})


def pdf_bytes(title: str, blocks: Sequence[ReportBlock]) -> bytes:
    """Render the report as a PDF on A4 with page numbers."""
    _register_fonts()
    base = ParagraphStyle("base", fontName=FONT, fontSize=9, leading=13, spaceAfter=6)
    styles = {
        "title": ParagraphStyle("title", base, fontName=BOLD, fontSize=16, leading=20, spaceAfter=10),
        "heading": ParagraphStyle(
            "heading", base, fontName=BOLD, fontSize=12, leading=16, spaceBefore=10, keepWithNext=1
        ),
        "text": base,
        "cell": ParagraphStyle("cell", base, fontSize=7.5, leading=10, spaceAfter=0),
        "number": ParagraphStyle("number", base, fontSize=7.5, leading=10, spaceAfter=0, alignment=TA_RIGHT),
        "head": ParagraphStyle("head", base, fontName=BOLD, fontSize=7.5, leading=10, spaceAfter=0),
    }
    story: list[Flowable] = [Paragraph(html.escape(title), styles["title"])]
    story += [_flowable(block, styles) for block in blocks]
    stream = io.BytesIO()
    document = SimpleDocTemplate(
        stream, pagesize=A4, title=title, author="", invariant=1,
        leftMargin=MARGIN, rightMargin=MARGIN, topMargin=MARGIN, bottomMargin=MARGIN,
    )  # fmt: skip
    document.build(story, onFirstPage=_page_number, onLaterPages=_page_number)
    return stream.getvalue()


def _html(block: Text | TextTable | Plot) -> str:
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Plot):
        return figure_html(block.figure)
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in block.header)
    rows = "\n".join(_html_row(block, row) for row in block.rows)
    table = (
        f'<div class="scroll" tabindex="0"><table class="rows">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table></div>"
    )
    if len(block.rows) <= LONG:
        return table
    summary = f"All {len(block.rows)} rows: {', '.join(block.header).lower()}"
    return f'<details class="whole"><summary>{html.escape(summary)}</summary>\n{table}</details>'


def _html_row(table: TextTable, row: Sequence[str]) -> str:
    """Return one row; each cell names its column, which a phone shows in front of it."""
    cells = [f'<th scope="row">{html.escape(row[0])}</th>']
    for place, cell in enumerate(row[1:], 1):
        kind = NUMBER_CLASS if place in table.numbers else ""
        label = html.escape(table.header[place], quote=True)
        cells.append(f'<td{kind} data-label="{label}">{html.escape(cell)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _flowable(block: ReportBlock, styles: dict[str, ParagraphStyle]) -> Flowable:
    if isinstance(block, Heading):
        return Paragraph(html.escape(block.text), styles["heading"])
    if isinstance(block, Text):
        return Paragraph(html.escape(block.text), styles["text"])
    if isinstance(block, Plot):
        figure = block.printed or block.figure
        dpi = figure.dpi
        figure.set_dpi(PRINT_DPI)
        data = png_bytes(figure)
        figure.set_dpi(dpi)
        width, height = ImageReader(io.BytesIO(data)).getSize()
        scale = min(WIDTH / width, (A4[1] - 2 * MARGIN - 3 * cm) / height, LARGEST * 72 / PRINT_DPI)
        image = Image(io.BytesIO(data), width * scale, height * scale)
        reading = html.escape(getattr(block.figure, "reading", ""))
        return KeepTogether([image, Paragraph(reading, styles["text"])]) if reading else image
    rows = [[Paragraph(html.escape(cell), styles["head"]) for cell in block.header]]
    for row in block.rows:
        kinds = ["number" if i in block.numbers else "cell" for i in range(len(row))]
        rows.append([Paragraph(html.escape(c), styles[k]) for c, k in zip(row, kinds, strict=True)])
    total = sum(block.widths)
    table = LongTable(rows, [WIDTH * width / total for width in block.widths], repeatRows=1)
    rules = [
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, colors.black),
        ("LINEBELOW", (0, 1), (-1, -1), 0.25, colors.grey),
        ("LEFTPADDING", (0, 0), (-1, -1), 3),
        ("RIGHTPADDING", (0, 0), (-1, -1), 3),
    ]
    table.setStyle(TableStyle(rules))
    table.spaceAfter = 8
    return table


def _page_number(canvas: Canvas, document: SimpleDocTemplate) -> None:
    canvas.setFont(FONT, 8)
    canvas.drawRightString(A4[0] - MARGIN, MARGIN / 2, str(document.page))


def _register_fonts() -> None:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (FONT, BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))
