"""Typeset headings, paragraphs, tables and figures as one HTML page or one PDF.

Both formats are made from the same blocks, so they cannot disagree. The PDF is set by reportlab, in
pure Python: no browser, no TeX. Its font is DejaVu, which ships with matplotlib and has the symbols
that figures and names need. The same blocks always give the same bytes.
"""

from __future__ import annotations

import base64
import html
import io
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
from reportlab.platypus import Flowable, Image, LongTable, Paragraph, SimpleDocTemplate, TableStyle

from helpers.report.figure_style import png_bytes

FONT, BOLD = "DejaVuSans", "DejaVuSans-Bold"
PRINT_DPI = 220
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
    """A figure, with its label as alternative text."""

    figure: Figure


ReportBlock = Heading | Text | TextTable | Plot


def html_page(title: str, blocks: Sequence[ReportBlock]) -> str:
    """Render the report as one HTML page that loads nothing from elsewhere."""
    css = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    body = "\n".join(_html(block) for block in blocks)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{css}\nmain {{ margin: 0 auto; max-width: 56rem; "
        f"padding: 2rem 1.5rem; }}\n</style>\n</head>\n<body>\n<main>\n<h1>{html.escape(title)}</h1>\n"
        f"{body}\n</main>\n</body>\n</html>\n"
    )


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


def _html(block: ReportBlock) -> str:
    if isinstance(block, Heading):
        return f"<h2>{html.escape(block.text)}</h2>"
    if isinstance(block, Text):
        return f"<p>{html.escape(block.text)}</p>"
    if isinstance(block, Plot):
        image = base64.b64encode(png_bytes(block.figure)).decode()
        alt = html.escape(block.figure.get_label(), quote=True)
        return f'<p><img alt="{alt}" src="data:image/png;base64,{image}"></p>'
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in block.header)
    rows = "\n".join(
        "<tr>" + "".join(
            f"<td{NUMBER_CLASS if i in block.numbers else ''}>{html.escape(cell)}</td>"
            for i, cell in enumerate(row)
        ) + "</tr>"
        for row in block.rows
    )  # fmt: skip
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _flowable(block: ReportBlock, styles: dict[str, ParagraphStyle]) -> Flowable:
    if isinstance(block, Heading):
        return Paragraph(html.escape(block.text), styles["heading"])
    if isinstance(block, Text):
        return Paragraph(html.escape(block.text), styles["text"])
    if isinstance(block, Plot):
        dpi = block.figure.dpi
        block.figure.set_dpi(PRINT_DPI)
        data = png_bytes(block.figure)
        block.figure.set_dpi(dpi)
        width, height = ImageReader(io.BytesIO(data)).getSize()
        scale = min(WIDTH / width, (A4[1] - 2 * MARGIN - 3 * cm) / height)
        return Image(io.BytesIO(data), width * scale, height * scale)
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
