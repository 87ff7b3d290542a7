"""Style of generated code as one number, from ruff's `D`, `E` and `W` findings per 100 lines.

    score = 1 / (1 + findings_per_100_lines / 20)

1 means no findings; 20 findings in 100 lines give 0.5. Lines are physical lines, including blank ones.
The rules are pydocstyle's (convention PEP 257, which the NumPy and Google styles share) and
pycodestyle's at 88 columns, with their own configuration: neither the project's `pyproject.toml` nor a
`noqa` comment in the answer has any effect. Rules about files (the docstring of a module or package,
the last newline) are off, since an answer is a snippet.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.code.python_text import parse
from helpers.errors import SuiteError
from helpers.lines import with_newlines

HALF_SCORE_AT = 20.0  # findings per 100 lines
SELECT = "D,E,W"
IGNORE = "D100,D104,W292,W391"
CONFIG = ("--config", "line-length = 88", "--config", 'lint.pydocstyle.convention = "pep257"',
          "--config", 'target-version = "py311"')  # fmt: skip


class StyleError(SuiteError, RuntimeError):
    """Ruff is missing or failed."""


@dataclass(frozen=True)
class StyleScore:
    """Style of one snippet."""

    score: float | None  # 0..1; None if the code is empty or does not parse
    findings: tuple[str, ...]  # "rule line: message"


def style_scores(codes: Sequence[str]) -> list[StyleScore]:
    """Score snippets with one ruff call; return scores in input order.

    Raises:
        StyleError: if ruff cannot be run.
    """
    texts = [with_newlines(code).strip("\n") + "\n" for code in codes]
    usable = [bool(text.strip()) and parse(text) is not None for text in texts]
    found = _findings([text if use else None for text, use in zip(texts, usable, strict=True)])
    scores = []
    for text, use, findings in zip(texts, usable, found, strict=True):
        rate = 100.0 * len(findings) / text.count("\n")
        scores.append(StyleScore(1.0 / (1.0 + rate / HALF_SCORE_AT) if use else None, tuple(findings)))
    return scores


def _findings(texts: list[str | None]) -> list[list[str]]:
    found: list[list[str]] = [[] for _ in texts]
    if not any(texts):
        return found
    with tempfile.TemporaryDirectory(prefix="style-") as folder:
        for index, text in enumerate(texts):
            if text is not None:
                name = Path(folder, f"snippet_{index}.py")
                name.write_text(text, encoding="utf-8", errors="replace", newline="\n")
        done = run_ruff(folder, "--ignore-noqa", "--select", SELECT, "--ignore", IGNORE, *CONFIG)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StyleError(f"ruff failed: {reason}; install it with the project's requirements")
    rows = json.loads(done.stdout)
    for row in sorted(rows, key=lambda f: (f["location"]["row"], f["location"]["column"], f["code"])):
        index = int(Path(row["filename"]).stem.rpartition("_")[2])
        found[index].append(f"{row['code']} {row['location']['row']}: {row['message']}")
    return found


def run_ruff(folder: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `ruff check` on a folder without any configuration; its output is JSON."""
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--quiet"]
    command += ["--no-respect-gitignore"]  # a folder above may ignore everything
    command += ["--exit-zero", "--output-format", "json", *options, folder]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
