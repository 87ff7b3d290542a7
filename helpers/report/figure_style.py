"""One look for every figure, and the HTML that shows it.

Before is grey, hollow and dashed; after is blue, filled and solid; what got worse is orange and crossed. So a
greyscale print, a colour-blind reader and a dark page all tell them apart. Text and axes take the colour
of the page around them. Figures are as wide as a phone, so that their text is never smaller than 9 pt.

Figures are made without pyplot: no display, no global state, nothing to close.
"""

from __future__ import annotations

import hashlib
import html
import io
import math
import re
import xml.etree.ElementTree as ET
from typing import Any, TypeGuard

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from helpers.errors import SuiteError
from helpers.escaping import visible

BEFORE, AFTER, WORSE = "#7d858f", "#2f7dc1", "#cc5a10"  # each at least 3:1 on white and on near-black
INK = "#1b1f24"  # becomes the page's own text colour in SVG
DPI = 110
WIDTH = 3.5  # inches, 336 CSS pixels: what a page 390 pixels wide has room for
LEAST_POINTS = 9.0
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "hatch.linewidth": 0.8,
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "report",
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
styled = matplotlib.rc_context(STYLE)  # decorator that applies the style while a figure is drawn
NAMESPACE, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
FONT = re.compile(r"font: (?:(bold|\d{3}) )?([\d.]+)px [^;]*")  # weight, size; the family is the page's
FAMILY = re.compile(r"font-family: [^;]*;? ?")
# In Colab and nbconvert, MathJax would typeset what stands between two dollar signs.
NO_FORMULAS = "tex2jax_ignore mathjax_ignore"
SIDE_BY_SIDE = "display:flex;flex-wrap:wrap;gap:0.5rem 1.5rem;align-items:flex-start;margin:1rem 0"
CAPTION = "flex:1 1 13rem;max-width:28rem;padding-top:0.3rem;overflow-wrap:anywhere"


class NothingToDraw(SuiteError, ValueError):
    """A figure lacks its data. The message is a sentence that the report shows in the figure's place."""


class ReportFigure(Figure):
    """A figure with alternative text (its label) and one sentence that reads it."""

    reading: str = ""


def new_figure(
    width: float, height: float, panels: int = 1, *, vertical: bool = False
) -> tuple[ReportFigure, list[Axes]]:
    """Create a figure with constrained layout, its panels side by side or `vertical`.

    Args:
        width, height: inches.
    """
    figure = ReportFigure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(*((panels, 1) if vertical else (1, panels)), squeeze=False)
    return figure, list(axes.flat)


def labelled(figure: ReportFigure, alt: str, reading: str = "") -> ReportFigure:
    """Attach the alternative text and the sentence that reads the figure, and return the figure."""
    figure.set_label(visible(alt))
    figure.reading = visible(reading)
    return figure


def finite(value: Any) -> TypeGuard[float]:
    """Return whether `value` is a number that can be drawn."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def shortened(name: str, limit: int) -> str:
    """Return `name` on one line within `limit` characters; the middle of a longer one becomes an ellipsis.

    >>> shortened("algorithms/current_flow.py", 12)
    'algor…low.py'
    """
    line = " ".join(visible(name).split())
    if len(line) <= limit:
        return line
    head = (limit - 1) // 2
    return f"{line[:head]}…{line[len(line) - (limit - 1 - head) :]}"


def show(figure: Figure, alt: str = "") -> None:
    """Display a figure in a notebook: SVG with alternative text (by default its label), and its reading."""
    from IPython.display import display

    text = alt or str(figure.get_label())
    display({"text/html": figure_html(figure, text), "text/plain": text}, raw=True)


def figure_html(figure: Figure, alt: str = "") -> str:
    """Return `<figure>` with the figure as inline SVG, its alternative text, and its reading as caption."""
    text = html.escape(alt or str(figure.get_label()), quote=True)
    reading = getattr(figure, "reading", "")
    caption = f'<figcaption style="{CAPTION}">{html.escape(reading)}</figcaption>' if reading else ""
    drawing = svg_markup(figure).replace("<svg ", f'<svg role="img" aria-label="{text}" ', 1)
    return f'<figure class="{NO_FORMULAS}" style="{SIDE_BY_SIDE}">{drawing}{caption}</figure>'


def svg_markup(figure: Figure) -> str:
    """Return the figure as one `<svg>` element for a page; the same data give the same text.

    Its ids are its own, its text takes the page's colour and font, and it loads nothing.
    """
    root = ET.fromstring(visible(_printed(figure)))
    _, _, width, height = root.attrib["viewBox"].split()
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{NAMESPACE}metadata", f"{NAMESPACE}style"):
                parent.remove(child)
    used = set(re.findall(r"(?:url\(|href=\")#([^)\"]+)", ET.tostring(root, encoding="unicode")))
    own = hashlib.sha256(ET.tostring(root)).hexdigest()[:8]
    for element in root.iter():  # from here on without namespaces, as HTML has it
        element.tag = element.tag.removeprefix(NAMESPACE)
        if element.attrib.get("id") not in used:
            element.attrib.pop("id", None)
        if LINK in element.attrib:
            element.set("href", element.attrib.pop(LINK))
        for name, value in element.attrib.items():
            element.set(name, _on_page(name, value, own))
    size = float(width) * 4 / 3
    look = (
        f"flex:1 1 {min(size, 320):.0f}px;max-width:{size * 1.3:.0f}px;min-width:0;height:auto;"
        "font-family:system-ui,sans-serif;stroke-linejoin:round;stroke-linecap:butt"
    )
    root.attrib = {"viewBox": f"0 0 {width} {height}", "width": f"{size:.0f}", "style": look}
    return ET.tostring(root, encoding="unicode")


def _printed(figure: Figure) -> str:
    """Return matplotlib's own SVG, without the white ground that its PNG has."""
    stream = io.StringIO()
    ground = figure.patch.get_visible()
    figure.patch.set_visible(False)
    try:
        with matplotlib.rc_context(STYLE):
            nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
            FigureCanvasSVG(figure).print_svg(stream, metadata=nothing)
    finally:
        figure.patch.set_visible(ground)
    return stream.getvalue()


def _on_page(name: str, value: str, own: str) -> str:
    """Return an attribute's value with ids of its own, the page's ink, and the page's font."""
    if name == "id":
        return f"{own}-{value}"
    value = re.sub(r"url\(#([^)]+)\)", rf"url(#{own}-\1)", value)
    if name == "href":
        value = re.sub(r"^#", f"#{own}-", value)
    font = FONT.sub(lambda found: f"font-weight: {found[1] or 'normal'}; font-size: {found[2]}px", value)
    return FAMILY.sub("", font).replace(INK, "currentColor")


def png_bytes(figure: Figure) -> bytes:
    """Render the figure as PNG at 110 dpi; the same figure gives the same bytes."""
    stream = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()
