"""The bootstrap installs what is missing and moves nothing that is there."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers.bootstrap import BootstrapError, install_missing, missing_requirements

ROOT = Path(__file__).parents[1]


def test_only_absent_or_too_old_packages_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# comment\nnumpy>=1.0\nnumpy>=999\nno-such-package>=1  # why\n\n")
    assert missing_requirements(file) == ["numpy>=999", "no-such-package>=1"]


def test_nothing_missing_runs_nothing(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("numpy>=1.0\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    assert install_missing(file) == []


def test_installed_versions_are_constraints_except_the_unmet_ones(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("no-such-package>=1\n")
    seen = {}

    def pip(command, **kwargs):
        seen["constraints"] = Path(command[command.index("--constraint") + 1]).read_text()
        seen["command"] = command
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(subprocess, "run", pip)
    assert install_missing(file) == ["no-such-package>=1"]
    assert f"torch=={importlib.metadata.version('torch')}" in seen["constraints"].splitlines()
    assert "no-such-package" not in seen["constraints"]
    assert "--upgrade" not in seen["command"]


def test_failure_is_one_clear_sentence(tmp_path: Path, monkeypatch) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("no-such-package>=1\n")
    failed = SimpleNamespace(returncode=1, stderr="noise\nERROR: no matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(BootstrapError, match=r"could not install no-such-package>=1: ERROR: no matching"):
        install_missing(file)


def test_unreadable_requirement_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("numpy @ somewhere\n")
    with pytest.raises(BootstrapError, match="cannot read the line"):
        missing_requirements(file)


def test_the_suite_never_asks_to_move_what_hosted_runtimes_bring() -> None:
    asked = {line.split(">")[0].lower() for line in (ROOT / "requirements.txt").read_text().splitlines()}
    assert not asked & {"torch", "numpy", "pandas", "transformers", "peft", "datasets", "accelerate"}
    lock = (ROOT / "requirements-lock.txt").read_text().splitlines()
    pins = [line for line in lock if line and not line.startswith("#")]
    assert pins[0] == "torch==2.13.0"
    assert all("==" in line for line in pins)
