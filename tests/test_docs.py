"""README.md, CONTRIBUTING.md and docs/ name only files, commands, options and targets that exist."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from helpers.__main__ import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOTS = "helpers|labs|scripts|benchmarks|tests|docs|exports"
MADE = {"exports/ML_Assignment_Part2.html"}  # by a run

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def code_lines(text: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return lines + re.findall(r"`((?:make|python -m helpers) [^`\n]+)`", text)


def test_readme_is_short():
    assert len(PAGES[0].read_text().split()) <= 900


@pages
def test_paths_exist(page):
    text = page.read_text()
    named = set(re.findall(rf"`((?:{ROOTS})/[\w./-]*)`", text)) - MADE
    assert [path for path in named if not (ROOT / path).exists()] == []
    links = [link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)]
    assert [link for link in links if link and "://" not in link and not (page.parent / link).exists()] == []


@pages
def test_names_are_defined_where_the_page_says(page):
    pattern = r"`(\w+)`(?:,? (?:in|at)\s|\s\((?:[^`()]*\s)?)`(helpers/[\w/]+\.py)`"
    for name, path in re.findall(pattern, page.read_text()):
        assert re.search(rf"\b{name}\b", (ROOT / path).read_text()), f"{name} in {path}"


def test_map_follows_the_tree():
    block = PAGES[0].read_text().partition("## Map")[2].split("```")[1]
    above, named = [], []
    for line in block.strip("\n").splitlines():
        names, phrase = line[:28].split(), line[28:]
        above = above[: (len(line) - len(line.lstrip())) // 2]
        named += [Path(*above, name) for name in names]
        above = [*above, names[0]]
        named += [Path(*above, name) for name in re.findall(r"\w+\.py\b", phrase)]
    assert [path.as_posix() for path in named if not (ROOT / path).exists()] == []


@pages
def test_commands_are_real(page):
    commands = typer.main.get_command(app).commands
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in code_lines(page.read_text()):
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        elif "helpers" in words:
            command, *rest = words[words.index("helpers") + 1 :]
            found = commands[command]
            while hasattr(found, "commands"):  # a group such as `profiling`
                found = found.commands[rest.pop(0)]
            known = {o for p in found.params for o in (*p.opts, *p.secondary_opts)}
            assert {word for word in rest if word.startswith("--")} <= known, line
