"""What git ignores and tracks: the same verdicts as git's own, with git installed and without."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from helpers.data import git_rules as module
from helpers.data.corpus import load_corpus, rejection_counts
from helpers.data.corpus_spec import CorpusError
from helpers.data.git_rules import git_rules
from helpers.settings import CorpusSettings

ANY_SIZE = CorpusSettings(min_file_bytes=1, near_duplicate_threshold=1.0)


def put(folder: Path, path: str, text: str | None = None) -> Path:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() else "_" for letter in path)
    if text is None:
        text = f"def f_{name}(value):\n    return value + {len(name)}\n"
        if path.endswith((".ts", ".js")):
            text = f"export function f_{name}(value) {{ return value + {len(name)}; }}\n"
    file.write_text(text, encoding="utf-8")
    return file


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout


def committed(folder: Path) -> Path:
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def taken(folder: Path, spec: str = "path") -> list[str]:
    return [file.path for file in load_corpus(f"{spec}:{folder}", ANY_SIZE).files]


def reasons(folder: Path, settings: CorpusSettings = ANY_SIZE) -> dict[str, str]:
    return {file.path: file.reason for file in load_corpus(f"path:{folder}", settings).rejected}


@pytest.fixture(params=["git", "no git"])
def with_and_without_git(request, monkeypatch):
    if request.param == "no git":

        def missing(*arguments, **options):
            raise CorpusError("git is not installed")

        monkeypatch.setattr(module, "run_git", missing)
    return request.param == "git"


@pytest.fixture(autouse=True)
def no_rules_of_the_person(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)


# --- ignored -------------------------------------------------------------------------------------

NAMES = ("a", "b", "ab", "c.py", "d.py", "build", "x y")
LINES = (
    "*", "*/", "!*/", "!*.py", "*.py", "/*", "!/a", "!/a/", "a", "a/", "/b", "b/", "a/b", "a/b/", "a/*", "!a/b",
    "**/b", "a/**", "a/**/b", "!a/c.py", "b/**/", "build", "build/", "!build/c.py", "?b", "[ab]", "[!a]", "a*/",
    "# a", "\\#a", "", "x\\ y", "x y", "x*/d.py", "!d.py", "**/a/**", "a/*/c.py", "!**/b/", "/", "//", "!", "b ", "*b*",
)  # fmt: skip


def test_verdicts_are_those_of_git_on_random_rules(tmp_path) -> None:
    """Files that git would add, against files that are not ignored, over drawn trees and nested rules."""
    draw = random.Random("ignore rules")
    compared = left_out = 0
    for number in range(60):
        folder = tmp_path / str(number)
        places = ["/".join(draw.choices(NAMES[:3] + NAMES[5:], k=draw.randint(0, 3))) for _ in range(9)]
        for place in places:
            put(folder, f"{place}/{draw.choice(NAMES[3:5])}".lstrip("/"), "x = 1\n")
        for place in ["", *draw.sample(places, 2)]:
            rules = "\n".join(draw.choices(LINES, k=draw.randint(1, 5)))
            put(folder, f"{place}/.gitignore".lstrip("/"), rules + "\n")
        git(folder, "init", "--quiet")
        rules = git_rules(folder, look_above=True)
        found, pending = set(), [(folder, "", rules.with_folder(rules.above, folder, ""))]
        while pending:
            inner, path, known = pending.pop()
            for entry in sorted(inner.iterdir()):
                name = f"{path}{entry.name}" + ("/" if entry.is_dir() else "")
                if entry.name == ".git" or rules.ignores(name, known):
                    left_out += entry.name != ".git"
                elif entry.is_dir():
                    pending.append((entry, name, rules.with_folder(known, entry, name)))
                else:
                    found.add(name)
        expected = set(git(folder, "ls-files", "--others", "--exclude-standard", "-z").split("\0")) - {""}
        shown = {str(f.relative_to(folder)): f.read_text() for f in folder.rglob(".gitignore")}
        assert found == expected, shown
        compared += len(expected)
    assert compared > 100
    assert left_out > 100


@pytest.mark.parametrize("pattern", ["[a-A].py", "[a-AKz].py", "[!c-a].py", "[^c-a].py", "[a-c].py", "x[z-b-d].py", "[]a].py", "[a", "[z-a"])  # fmt: skip
def test_a_range_written_backwards_matches_as_git_has_it(tmp_path, pattern) -> None:
    for name in ("a", "A", "K", "b", "c", "z", "xz", "xb", "xc", "xd", "x-", "]"):
        put(tmp_path, f"{name}.py", "x = 1\n")
    put(tmp_path, ".gitignore", f"{pattern}\n")
    git(tmp_path, "init", "--quiet")
    rules = git_rules(tmp_path, look_above=True)
    known = rules.with_folder(rules.above, tmp_path, "")
    found = {
        file.name for file in tmp_path.iterdir() if file.is_file() and not rules.ignores(file.name, known)
    }
    assert found == set(git(tmp_path, "ls-files", "--others", "--exclude-standard", "-z").split("\0")) - {""}


def ignoring(folder: Path) -> Path:
    put(folder, ".gitignore", "scratch/\nlocal_settings.py\n*.gen.py\n/data_dump/\n!scratch/keep.py\n")
    put(folder, "app/.gitignore", "/made.py\n!wanted.gen.py\n")
    for path in (
        "main.py", "app/made.py", "app/wanted.gen.py", "app/deep/made.py", "app/tables.gen.py", "local_settings.py",
        "scratch/keep.py", "data_dump/rows.py", "app/data_dump/rows.py",
    ):  # fmt: skip
        put(folder, path)
    return folder


KEPT = ["app/data_dump/rows.py", "app/deep/made.py", "app/wanted.gen.py", "main.py"]


def test_what_git_ignores_stays_out_and_is_listed(tmp_path, with_and_without_git) -> None:
    folder = committed(ignoring(tmp_path / "repo"))
    assert taken(folder) == KEPT
    found = reasons(folder)
    ignored = {path for path, reason in found.items() if reason == "ignored by git"}
    assert ignored == {"app/made.py", "app/tables.gen.py", "local_settings.py", "scratch/", "data_dump/"}


def test_ignore_files_count_without_a_repository_and_from_the_folders_above(
    tmp_path, with_and_without_git
) -> None:
    assert taken(ignoring(tmp_path / "unpacked")) == KEPT
    folder = committed(ignoring(tmp_path / "repo"))
    put(folder, ".git/info/exclude", "/extra/\n")
    put(folder, "extra/a.py")
    put(folder, "app/extra/a.py")
    assert taken(folder) == ["app/data_dump/rows.py", "app/deep/made.py", "app/extra/a.py", *KEPT[2:]]
    put(folder, ".gitignore", "tables*\nextra\n")
    assert taken(folder / "app") == ["data_dump/rows.py", "deep/made.py", "wanted.gen.py"]


def test_a_folder_that_is_ignored_itself_can_be_named(tmp_path, with_and_without_git) -> None:
    folder = committed(ignoring(tmp_path / "repo"))
    put(folder, "scratch/vendor/a.py")
    assert taken(folder / "scratch") == ["keep.py"]  # and a name such as vendor/ is judged as anywhere else


def test_a_tracked_file_is_source_although_a_rule_ignores_it(tmp_path) -> None:
    folder = ignoring(tmp_path / "repo")
    git(folder, "init", "--quiet")
    git(folder, "add", "--force", "scratch/keep.py", "main.py")
    put(folder, "scratch/not_added.py")
    assert taken(folder) == [
        "app/data_dump/rows.py",
        "app/deep/made.py",
        "app/wanted.gen.py",
        "main.py",
        "scratch/keep.py",
    ]
    assert reasons(folder)["scratch/not_added.py"] == "ignored by git"


def test_an_include_pattern_that_spells_out_a_place_overrides_the_ignore_rules(tmp_path) -> None:
    folder = committed(ignoring(tmp_path / "repo"))
    settings = CorpusSettings(min_file_bytes=1, include=("local_settings.py", "data_dump/*"))
    files = load_corpus(f"path:{folder}", settings).files
    assert [file.path for file in files] == ["data_dump/rows.py", "local_settings.py"]


def test_an_installed_package_is_read_whatever_the_repository_around_it_ignores(
    tmp_path, monkeypatch
) -> None:
    put(tmp_path, ".gitignore", "*\n")
    put(tmp_path, "lib/some_package/__init__.py")
    put(tmp_path, "lib/some_package/.gitignore", "*\n")
    git(tmp_path, "init", "--quiet")
    monkeypatch.syspath_prepend(str(tmp_path / "lib"))
    files = load_corpus("installed:some_package", ANY_SIZE).files
    assert [file.path for file in files] == ["__init__.py"]


# --- tracked -------------------------------------------------------------------------------------


def named(folder: Path) -> Path:
    for place in ("src/build", "src/env", "src/dist", "packages/vendor/src", "third_party", "venv", "_build"):
        put(folder, f"{place}/paths.ts")
    put(folder, "packages/vendor/package.json", '{"name": "@shop/vendor", "main": "src/paths.ts"}')
    put(folder, "shop/vendor/models.py")
    put(folder, "stats/dist/normal.go", "package dist\n\nfunc Density(x float64) float64 { return x }\n")
    return folder


def test_tracked_folders_called_like_build_output_or_copies_are_source(
    tmp_path, with_and_without_git
) -> None:
    folder = committed(named(tmp_path / "repo"))
    assert taken(folder) == [
        "_build/paths.ts", "packages/vendor/src/paths.ts", "shop/vendor/models.py", "src/build/paths.ts",
        "src/dist/paths.ts", "src/env/paths.ts", "stats/dist/normal.go", "third_party/paths.ts", "venv/paths.ts",
    ]  # fmt: skip


def test_a_clone_takes_what_the_working_tree_does(tmp_path) -> None:
    folder = committed(named(ignoring(tmp_path / "repo")))
    cloned = load_corpus(f"git:{folder}", ANY_SIZE, cache_dir=tmp_path / "cache")
    assert cloned.sha256 == load_corpus(f"path:{folder}", ANY_SIZE).sha256
    assert "src/build/paths.ts" in {file.path for file in cloned.files}


def test_untracked_folders_of_such_names_stay_out(tmp_path) -> None:
    folder = committed(named(tmp_path / "repo"))
    put(folder, "src/build/made_today.ts")
    put(folder, "lib/build/made_today.ts")
    found = reasons(folder)
    assert found["src/build/made_today.ts"] == "build output"
    assert found["lib/build/"] == "build output"
    assert "src/build/paths.ts" in taken(folder)


LICENCE = "MIT License\n\nCopyright (c) Somebody Else\n\nPermission is hereby granted, free of charge.\n"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"vendor/modules.txt": "# github.com/x/y v1.0.0\n", "vendor/github.com/x/y/y.go": None}, "vendored"),
        ({"vendor/thing/LICENSE": LICENCE, "vendor/thing/a.py": None}, "vendored"),
        ({"vendor/LICENSE.txt": LICENCE, "vendor/a.py": None}, "vendored"),
        ({"node_modules/@x/y/package.json": "{}", "node_modules/@x/y/a.js": None}, "vendored"),
        (
            {"third_party/z/Cargo.toml": "[package]\n", "third_party/z/a.rs": "fn f() -> i32 { 1 }\n"},
            "vendored",
        ),
        ({"env/pyvenv.cfg": "home = /usr\n", "env/lib/a.py": None}, "build output"),
        ({"build/CMakeCache.txt": "A:B=C\n", "build/a.c": "int f(void) { return 1; }\n"}, "build output"),
        ({"build/lib/a.py": None, "build/bdist.linux-x86_64/x": ""}, "build output"),
        ({"dist/a.js": None, "package.json": '{"main": "./dist/a.js"}'}, "build output"),
        (
            {"dist/a.js": None, "package.json": '{"exports": {".": {"import": "./dist/a.js"}}}'},
            "build output",
        ),
    ],
)
def test_tracked_copies_and_build_output_stay_out_by_more_than_their_name(
    tmp_path, files, reason, with_and_without_git
) -> None:
    folder = tmp_path / "repo"
    put(folder, "main.py")
    put(folder, "LICENSE", "Apache License\n")
    for path, text in files.items():
        put(folder, path, text)
    committed(folder)
    top = f"{next(iter(files)).split('/')[0]}/"
    assert reasons(folder)[top] == reason
    assert taken(folder) == ["main.py"]


def test_a_package_called_vendor_with_the_repositorys_own_licence_is_source(tmp_path) -> None:
    folder = tmp_path / "repo"
    for path in ("LICENSE", "packages/vendor/LICENSE", "packages/vendor/src/LICENSE"):
        put(folder, path, LICENCE)
    put(folder, "packages/vendor/src/a.py")
    assert taken(committed(folder)) == ["packages/vendor/src/a.py"]


MINE = "# Copyright 2020 Acme Works\n" + "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    ("head", "is_copy"),
    [
        ("# Copyright (c) 2010-2020 Benjamin Peterson\n#\n# Permission is hereby granted\n", True),
        ("# © 2011 Jane Roe, all rights reserved\n", True),
        ('"""Helpers.\n\n:copyright: (c) 2014 by Kenneth Reitz.\n"""\n', True),
        ("# Copyright 2024 ACME Works, Inc.\n", False),  # the repository's own
        ("# (c) Acme Works and others\n", False),
        ("# SPDX-License-Identifier: MIT\n", False),
        ("# The copyright notice and the copyright holders are checked here (copyright law).\n", False),
        ("", False),
    ],
)
def test_a_single_file_tells_by_its_copyright_where_it_came_from(tmp_path, head, is_copy) -> None:
    folder = tmp_path / "repo"
    put(folder, "shop/main.py", MINE)
    put(folder, "LICENSE", "Apache License\n")
    put(folder, "shop/_vendor/six.py", head + "def g(x):\n    return x - 1\n")
    assert taken(committed(folder)) == ["shop/_vendor/six.py", "shop/main.py"][is_copy:]


def test_git_attributes_say_what_is_vendored_or_generated(tmp_path, with_and_without_git) -> None:
    folder = tmp_path / "repo"
    for path in ("lib/copied/a.py", "lib/ours.py", "api/types.py", "vendor/ours/b.py"):
        put(folder, path)
    put(folder, "vendor/ours/LICENSE", LICENCE)
    put(folder, ".gitattributes", (
        "*.py text\nlib/copied/** linguist-vendored\napi/*.py text linguist-generated=true\n"
        "vendor/** -linguist-vendored\n"
    ))  # fmt: skip
    committed(folder)
    assert taken(folder) == ["lib/ours.py", "vendor/ours/b.py"]
    found = reasons(folder)
    assert (found["lib/copied/a.py"], found["api/types.py"]) == ("vendored", "generated")


def test_a_compiled_script_names_its_source_map(tmp_path) -> None:
    put(tmp_path, "a.js", "export function f(value) { return value + 1; }\n//# sourceMappingURL=a.js.map\n")
    assert reasons(tmp_path) == {"a.js": "generated"}


# --- submodules ----------------------------------------------------------------------------------


def test_submodules_are_named_whether_fetched_or_empty(tmp_path, with_and_without_git) -> None:
    other = put(tmp_path / "other", "theirs.py").parent
    committed(other)
    folder = put(tmp_path / "repo", "ours.py").parent
    git(folder, "init", "--quiet")
    for name in ("full", "deep/empty"):
        git(folder, "submodule", "--quiet", "add", str(other), name)
    committed(folder)
    for path in (folder / "deep/empty").iterdir():
        path.unlink()
    assert taken(folder) == ["ours.py"]
    rejected = {
        file.path: (file.reason, file.detail) for file in load_corpus(f"path:{folder}", ANY_SIZE).rejected
    }
    assert rejected["full/"] == ("submodule", "folder of 2 files, not entered")
    assert rejected["deep/empty/"] == ("submodule", "empty: git submodule update --init fetches it")
    settings = CorpusSettings(min_file_bytes=1, include=("full/*",))
    assert [file.path for file in load_corpus(f"path:{folder}", settings).files] == ["full/theirs.py"]
    cloned = {
        file.path: file.reason
        for file in load_corpus(f"git:{folder}", ANY_SIZE, cache_dir=tmp_path / "c").rejected
    }
    assert (cloned["full/"], cloned["deep/empty/"]) == ("submodule", "submodule")


def test_a_folder_of_several_repositories_is_read_whole(tmp_path, with_and_without_git) -> None:
    for name in ("one", "two"):
        put(tmp_path, f"{name}/{name}.py")
        put(tmp_path, f"{name}/.gitignore", "left_out.py\n")
        put(tmp_path, f"{name}/left_out.py")
        committed(tmp_path / name)
    assert taken(tmp_path) == ["one/one.py", "two/two.py"]
    assert rejection_counts(load_corpus(f"path:{tmp_path}", ANY_SIZE).rejected)["ignored by git"] == 2
