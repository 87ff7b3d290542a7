"""Read the Python code of a Jupyter notebook as one text.

Code cells are joined in order, with an empty line between two. What only IPython understands (`%matplotlib
inline`, `!pip install x`, `name?`) becomes a comment, and so does a whole cell in another language
(`%%bash`). Outputs and prose are not read.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from helpers.escaping import storable
from helpers.lines import bare_lines

MAX_FACTOR = 200  # a notebook may be that many times larger than its code, for the sake of its outputs
PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun")  # cell magics that run the cell as Python
SPECIAL = re.compile(r"^\s*(?:[%!?]|.*\?\s*$|\w[\w, ]*=\s*[%!])")


def notebook_code(data: bytes) -> str:
    """Return the Python code of a notebook's cells as one text, which need not parse.

    Raises:
        ValueError: if `data` is no notebook of format 4 or of Python; the message says which.
    """
    try:
        notebook = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON: {error}") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        raise ValueError("no list of cells: not a notebook of format 4")
    if (language := _language(notebook)) not in ("python", ""):
        raise ValueError(f"its language is {language}")
    sources = [_source(cell) for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    return "\n\n".join(filter(None, (_plain(source).strip("\n") for source in sources))) + "\n"


def _language(notebook: dict[str, Any]) -> str:
    """Return the language that the metadata state, in lower case; "" if they state none."""
    metadata = notebook.get("metadata")
    for part, key in (("language_info", "name"), ("kernelspec", "language")):
        stated = metadata.get(part) if isinstance(metadata, dict) else None
        if isinstance(stated, dict) and isinstance(stated.get(key), str):
            return stated[key].lower()
    return ""


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return storable("".join(map(str, source)) if isinstance(source, list) else str(source))


def _plain(source: str) -> str:
    """Return a cell as Python; what is IPython's own or in another language becomes a comment."""
    lines = bare_lines(source)
    first = next((line.strip() for line in lines if line.strip()), "")
    if first.startswith("%%") and first.split()[0] not in PYTHON_CELLS:
        return "\n".join(_comment(line) for line in lines)
    if _parses(source):  # also where a line inside a text begins like a magic
        return source
    return "\n".join(_comment(line) if SPECIAL.match(line) else line for line in lines)


def _comment(line: str) -> str:
    """Return a line as a comment with its indentation; `pass` keeps a block that holds nothing else."""
    indent = line[: len(line) - len(line.lstrip())]
    return f"{indent}{'pass  ' if indent else ''}# {line.strip()}" if line.strip() else line


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
