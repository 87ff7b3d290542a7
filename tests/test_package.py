"""What `pip install .` puts onto a machine: modules, data, the notebooks, and a command."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = (
    "ML_Assignment_Part2.ipynb", "labs/Fixed_Budget_Pretraining.ipynb", "labs/Training_Loop_Profiling.ipynb",
    "requirements.txt",
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "labs/problems").rglob("*.*") if path.suffix != ".pyc"),
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.Path:
    """The project's wheel, built from a copy so that nothing is left in the checkout."""
    if find_spec("setuptools") is None:
        pytest.skip("no setuptools to build with")
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if name.startswith("helpers/") or "/" not in name or name in SHIPPED:
            copy = folder / "source" / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / name).read_bytes())
    build = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", *build, str(folder / "source")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return zipfile.Path(next(folder.glob("*.whl")))


def test_it_holds_every_file_of_the_package_and_the_notebooks(wheel) -> None:
    names = set(wheel.root.namelist())
    listed = subprocess.run(["git", "ls-files", "-z", "helpers"], cwd=ROOT, capture_output=True, text=True)
    assert set(filter(None, listed.stdout.split("\0"))) - names == set()
    for name in SHIPPED:
        assert (wheel / "helpers/shipped" / name).read_bytes() == (ROOT / name).read_bytes()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"helpers"}


def test_it_carries_licence_notice_and_command(wheel) -> None:
    info = next(path for path in wheel.iterdir() if path.name.endswith(".dist-info"))
    assert {path.name for path in (info / "licenses").iterdir()} == {"LICENSE", "NOTICE"}
    assert "adapt-code-model = helpers.__main__:main" in (info / "entry_points.txt").read_text()
    assert "License-Expression: Apache-2.0" in (info / "METADATA").read_text()


def test_installed_alone_it_finds_its_notebooks_and_requirements(wheel, tmp_path) -> None:
    wheel.root.extractall(tmp_path)
    script = (
        "import helpers.bootstrap as b\nfrom pathlib import Path\n"
        f"assert all(b.suite_file(name).is_file() for name in {SHIPPED!r})\n"
        "print(b.suite_file('requirements.txt'), b.missing_requirements(Path('requirements.txt')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split()[0] == str(tmp_path / "helpers/shipped/requirements.txt"), done.stderr
