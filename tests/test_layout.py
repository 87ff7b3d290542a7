"""The map of the packages: which module may be used from outside is written where a reader looks first."""

from __future__ import annotations

import ast
import importlib
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
HELPERS = ROOT / "helpers"
PACKAGES = sorted(face.parent for face in HELPERS.rglob("__init__.py") if face.parent != HELPERS)
SCRIPTS = [path for folder in ("scripts", "benchmarks") for path in sorted((ROOT / folder).glob("*.py"))]
NOTEBOOKS = [ROOT / "ML_Assignment_Part2.ipynb", *sorted((ROOT / "labs").glob("*.ipynb"))]


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in HELPERS.rglob("*.py")}


def imported_by(code: str) -> set[str]:
    """Return the modules of `helpers` that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & set(MODULES)


def used_from_outside() -> dict[str, set[str]]:
    """Return package -> its modules and packages that files outside it import."""
    used: dict[str, set[str]] = defaultdict(set)
    packages = [dotted(package) for package in PACKAGES]
    users = {dotted(path): path.read_text(encoding="utf-8") for path in [*MODULES.values(), *SCRIPTS]}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        users[path.stem] = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    for own, code in users.items():
        for module in imported_by(code):
            for package in packages:
                if module.startswith(f"{package}.") and own != package and not own.startswith(f"{package}."):
                    used[package].add(module.removeprefix(f"{package}.").split(".")[0])
    return used


USED = used_from_outside()


def listed(package: Path) -> list[str]:
    """Return `__all__` of a package, which names modules."""
    for node in ast.parse((package / "__init__.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return []


@pytest.mark.parametrize("package", PACKAGES, ids=dotted)
def test_a_package_names_the_modules_that_others_use_and_no_others(package: Path) -> None:
    """Commands and outside scripts use the seams; they count as users, too."""
    seams = {"helpers.eval": {"sandbox"}}.get(dotted(package), set())
    assert set(listed(package)) == USED[dotted(package)] | seams
    assert listed(package) == sorted(listed(package))


@pytest.mark.parametrize("package", PACKAGES, ids=dotted)
def test_a_package_says_what_it_is_for(package: Path) -> None:
    assert ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8")))


def test_no_two_public_functions_or_modules_share_a_name() -> None:
    """Commands (`__main__`) are named after what they do, and a module may be named like its main function."""
    places: dict[str, set[str]] = defaultdict(set)
    for name, path in MODULES.items():
        if path.name not in ("__init__.py", "__main__.py"):
            places[path.stem].add(name)
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                    places[node.name].add(name)
    assert {name: sorted(found) for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", [*SCRIPTS, *MODULES.values()], ids=dotted)
def test_every_name_that_a_file_takes_from_the_package_exists(path: Path) -> None:
    """Also where a function imports it only when called, and in benchmarks, which no other test runs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("helpers"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                assert full in MODULES or hasattr(importlib.import_module(node.module), alias.name), full


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_name_that_a_notebook_takes_from_the_package_exists(notebook: Path) -> None:
    """A moved function would else be noticed only where a run reaches its cell."""
    cells = nbformat.read(notebook, as_version=4).cells
    code = [ast.parse(cell.source) for cell in cells if cell.cell_type == "code"]
    statements = [node for tree in code for node in ast.walk(tree)]
    modules: dict[str, ModuleType] = {}
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("helpers"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if full in MODULES:
                    modules[alias.asname or alias.name] = importlib.import_module(full)
                else:
                    assert hasattr(importlib.import_module(node.module), alias.name), full
    for node in statements:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            assert hasattr(modules[node.value.id], node.attr), ast.unparse(node)
