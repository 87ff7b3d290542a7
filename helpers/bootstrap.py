"""Install what a runtime lacks, and nothing else. Standard library only: it runs before the rest.

A hosted runtime brings torch, numpy, pandas and transformers; moving one of them in a running
kernel forces a restart. So every installed version is passed to pip as a constraint, and a
requirement that is already met is not passed at all.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from helpers.errors import SuiteError


class BootstrapError(SuiteError, RuntimeError):
    """A needed package is missing and could not be installed."""


def missing_requirements(requirements: Path) -> list[str]:
    """Lines of a requirements file whose package is absent or older than its lower bound."""
    missing = []
    for line in requirements.read_text(encoding="utf-8").splitlines():
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
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", constraints.name]
        done = subprocess.run([*command, *missing], capture_output=True, text=True)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BootstrapError(f"could not install {', '.join(missing)}: {reason}. Is the network up?")
    return missing


def _release(version: str) -> tuple[int, ...]:
    """Leading numeric parts of a version, enough to compare lower bounds."""
    return tuple(int(part) for part in re.match(r"[0-9.]*", version)[0].split(".") if part)
