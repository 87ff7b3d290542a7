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

HALF_SCORE_AT = 20.0  # findings per 100 lines
SELECT = "D,E,W"
IGNORE = "D100,D104,W292,W391"
CONFIG = ("line-length = 88", 'lint.pydocstyle.convention = "pep257"', 'target-version = "py311"')


class StyleError(SuiteError, RuntimeError):
    """Ruff is missing or failed."""


@dataclass(frozen=True)
class StyleScore:
    """Style of one snippet.

    `score` is 0..1, or None if the code is empty or does not parse; each finding is "rule line: message".
    """

    score: float | None
    findings: tuple[str, ...]
    n_lines: int

    @property
    def per_100_lines(self) -> float | None:
        """Findings per 100 physical lines."""
        return None if self.score is None else 100.0 * len(self.findings) / self.n_lines


def style_score(code: str) -> StyleScore:
    """Score one snippet; `style_scores` scores many at once."""
    return style_scores([code])[0]


def style_scores(codes: Sequence[str]) -> list[StyleScore]:
    """Score snippets with one ruff call; return scores in input order.

    Raises:
        StyleError: if ruff cannot be run.
    """
    texts = [code.replace("\r\n", "\n").strip("\n") + "\n" for code in codes]
    usable = [bool(text.strip()) and parse(text) is not None for text in texts]
    findings: list[list[str]] = [[] for _ in codes]
    if any(usable):
        with tempfile.TemporaryDirectory(prefix="style-") as folder:
            for index, text in enumerate(texts):
                if usable[index]:
                    name = Path(folder, f"snippet_{index}.py")
                    name.write_text(text, encoding="utf-8", errors="replace", newline="\n")
            for finding in _run_ruff(folder):
                index = int(Path(finding["filename"]).stem.rpartition("_")[2])
                row = finding["location"]["row"]
                findings[index].append(f"{finding['code']} {row}: {finding['message']}")
    scores = []
    for index, text in enumerate(texts):
        n_lines = text.count("\n")
        if not usable[index]:
            scores.append(StyleScore(None, (), n_lines))
            continue
        rate = 100.0 * len(findings[index]) / n_lines
        scores.append(StyleScore(1.0 / (1.0 + rate / HALF_SCORE_AT), tuple(findings[index]), n_lines))
    return scores


def _run_ruff(folder: str) -> list[dict]:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--ignore-noqa", "--quiet"]
    command += ["--no-respect-gitignore"]  # a folder above may ignore everything
    command += ["--exit-zero", "--output-format", "json", "--select", SELECT, "--ignore", IGNORE]
    for setting in CONFIG:
        command += ["--config", setting]
    done = subprocess.run([*command, folder], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StyleError(f"ruff failed: {reason}; install it with the project's requirements")
    return sorted(
        json.loads(done.stdout), key=lambda f: (f["location"]["row"], f["location"]["column"], f["code"])
    )
