"""Corpus specs, refused addresses and archives, licences, and the identity of a corpus."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import textwrap
import zipfile
from importlib.metadata import Distribution
from pathlib import Path

import pytest

from helpers.data.corpus import CorpusError, corpus_warnings, load_corpus, rejection_counts, summary_line
from helpers.data.corpus_spec import check_place, run_git, split_revision
from helpers.data.licences import licence_of_distribution, licence_of_folder, licence_of_text, licence_warning
from helpers.settings import CorpusSettings, public_spec

ANY_SIZE = CorpusSettings(min_file_bytes=1)


def write(folder: Path, **texts: str) -> Path:
    """Write files named by keyword; `a__b` stands for a/b.py."""
    for name, text in texts.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def function(name: str) -> str:
    return f"def {name}(value):\n    return value + len({name!r})\n"


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "origin"
    write(folder, first=function("alpha"))
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "v1")
    write(folder, second=function("beta"))
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "two")
    return folder


# --- identity ------------------------------------------------------------------------------------


def test_every_file_is_accepted_or_rejected_and_sorted(tmp_path):
    write(tmp_path, b=function("b"), a=function("a"), tests__test_a=function("t"))
    (tmp_path / "data.csv").write_text("1,2\n")
    corpus = load_corpus(f"path:{tmp_path}", ANY_SIZE)
    assert [file.path for file in corpus.files] == ["a.py", "b.py"]
    assert [(file.path, file.reason) for file in corpus.rejected] == [
        ("data.csv", "not source code"),
        ("tests/test_a.py", "test"),
    ]
    assert rejection_counts(corpus.rejected) == {"not source code": 1, "test": 1}


def test_hashes_cover_text_and_paths_in_any_order(tmp_path):
    one = write(tmp_path / "one", a=function("a"), b=function("b"))
    two = write(tmp_path / "two", b=function("b"), a=function("a"))
    moved = write(tmp_path / "moved", a=function("a"), c=function("b"))
    digests = [load_corpus(f"path:{folder}", ANY_SIZE).sha256 for folder in (one, two, moved)]
    assert digests[0] == digests[1] != digests[2]
    text = function("a")
    lines = "".join(f"{hashlib.sha256(function(n).encode()).hexdigest()}  {n}.py\n" for n in "ab")
    lines = "".join(sorted(lines.splitlines(keepends=True)))
    assert digests[0] == hashlib.sha256(lines.encode()).hexdigest()
    file = load_corpus(f"path:{one}", ANY_SIZE).files[0]
    assert (file.sha256, file.n_bytes) == (hashlib.sha256(text.encode()).hexdigest(), len(text))


def test_spec_argument_wins_and_empty_takes_the_settings(tmp_path, monkeypatch):
    write(tmp_path / "here", a=function("a"))
    monkeypatch.chdir(tmp_path)
    settings = CorpusSettings(spec="path:here", min_file_bytes=1)
    assert load_corpus("", settings).spec == "path:here"
    assert load_corpus("installed:json", settings).name == "json"


def test_few_files_are_no_error_but_said(tmp_path):
    write(tmp_path, a=function("a"))
    assert "Fewer than 100 files" in summary_line(load_corpus(f"path:{tmp_path}", ANY_SIZE))


# --- installed -----------------------------------------------------------------------------------


def test_default_corpus_is_networkx_without_its_tests(networkx_corpus):
    corpus = networkx_corpus
    assert (corpus.name, corpus.import_name, corpus.licence) == ("networkx", "networkx", "BSD-3-Clause")
    assert corpus.version.count(".") >= 1
    assert 100 <= len(corpus.files) <= 300
    assert not any("/tests/" in f"/{file.path}" for file in corpus.files)
    assert rejection_counts(corpus.rejected)["test"] > 200


def test_installed_code_is_found_without_running_it(tmp_path, monkeypatch):
    package = tmp_path / "explosive"
    write(package, __init__="raise SystemExit('imported')\n", deep____init__="raise SystemExit\n")
    write(package, deep__a=function("a"))
    (package / "__init__.py").write_text("raise SystemExit('imported')\n")
    (package / "deep" / "__init__.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    whole = load_corpus("installed:explosive", ANY_SIZE)
    assert (whole.import_name, whole.version, whole.licence) == ("explosive", "", "unknown")
    part = load_corpus("installed:explosive.deep", ANY_SIZE)
    assert (part.import_name, [file.path for file in part.files]) == ("explosive.deep", ["a.py"])
    assert "explosive" not in sys.modules


def test_single_module_takes_that_file_alone():
    corpus = load_corpus("installed:textwrap")
    assert ([file.path for file in corpus.files], corpus.import_name) == (["textwrap.py"], "")
    assert (corpus.rejected, corpus.licence) == ((), "PSF-2.0")


def test_distribution_name_that_differs_from_the_import_name():
    assert load_corpus("installed:PyYAML").import_name == "yaml"


@pytest.mark.parametrize("spec", ["installed:no_such_package_x", "installed:json.nothing", "installed:a b"])
def test_missing_package_is_named(spec):
    with pytest.raises(CorpusError, match=r"no installed package .* install it with pip"):
        load_corpus(spec)


def test_package_without_source_is_refused():
    with pytest.raises(CorpusError, match="no Python source"):
        load_corpus("installed:sys")


# --- path ----------------------------------------------------------------------------------------


def test_package_folder_gives_its_import_name(tmp_path):
    write(tmp_path / "pkg", __init__="", a=function("a"))
    (tmp_path / "pkg" / "__init__.py").write_text("")
    assert load_corpus(f"path:{tmp_path / 'pkg'}", ANY_SIZE).import_name == "pkg"
    assert load_corpus(f"path:{tmp_path}", ANY_SIZE).import_name == ""


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("networkx", "write installed:PACKAGE"),
        ("svn:somewhere", "write installed:PACKAGE"),
        ("path:", "write installed:PACKAGE"),
        ("path:no/such/folder", "no folder 'no/such/folder'"),
        ("path:a\0b", "NUL"),
    ],
)
def test_unusable_specs_say_what_to_do(spec, message):
    with pytest.raises(CorpusError, match=message):
        load_corpus(spec)


def test_an_empty_folder_is_refused_and_one_without_a_usable_file_warned_of(tmp_path):
    with pytest.raises(CorpusError, match="the folder is empty"):
        load_corpus(f"path:{tmp_path}")
    write(tmp_path, test_only=function("t"))
    corpus = load_corpus(f"path:{tmp_path}")
    assert corpus.files == ()
    assert [(file.path, file.reason) for file in corpus.rejected] == [("test_only.py", "test")]
    assert "0 files" in summary_line(corpus)
    assert (
        "No source file could be used, so nothing was measured (left out: 1 test)"
        in (corpus_warnings(corpus)[0])
    )
    with pytest.raises(CorpusError, match="is a file"):
        load_corpus(f"path:{tmp_path / 'test_only.py'}")


def test_checkout_reports_its_commit(repository):
    corpus = load_corpus(f"path:{repository}", ANY_SIZE)
    assert corpus.version == git(repository, "rev-parse", "HEAD")[:12]


# --- git -----------------------------------------------------------------------------------------


def test_git_clone_at_head_tag_branch_and_commit(repository, tmp_path):
    cache = tmp_path / "cache"

    def paths(revision: str) -> list[str]:
        corpus = load_corpus(f"git:{repository.as_uri()}{revision}", ANY_SIZE, cache_dir=cache)
        assert corpus.name == "origin"
        assert Path(corpus.root).is_dir()
        return [file.path for file in corpus.files]

    first, second = git(repository, "rev-list", "--reverse", "HEAD").splitlines()
    assert paths("") == paths("@main") == paths(f"@{second}") == ["first.py", "second.py"]
    assert paths("@v1") == paths(f"@{first}") == paths(f"@{first[:9]}") == ["first.py"]
    assert not list(cache.glob("partial-*"))
    assert load_corpus(f"git:{repository}@v1", ANY_SIZE, cache_dir=cache).version == first[:12]


def test_git_reads_repositories_whose_object_names_are_sha256(tmp_path):
    folder = write(tmp_path / "origin", first=function("alpha"))
    git(folder, "init", "--quiet", "--object-format=sha256")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "one")
    git(folder, "tag", "v1")
    commit = git(folder, "rev-parse", "HEAD")
    assert len(commit) == 64
    for revision in ("", "@v1", f"@{commit}", f"@{commit[:12]}"):
        corpus = load_corpus(f"git:{folder.as_uri()}{revision}", ANY_SIZE, cache_dir=tmp_path / "cache")
        assert ([file.path for file in corpus.files], corpus.version) == (["first.py"], commit[:12])
    assert load_corpus(f"path:{folder}", ANY_SIZE).version == commit[:12]


def test_git_runs_no_hooks(repository, tmp_path, monkeypatch):
    template = tmp_path / "template" / "hooks"
    template.mkdir(parents=True)
    hook = template / "post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template.parent))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "core.hooksPath")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(template))
    load_corpus(f"git:{repository}", ANY_SIZE, cache_dir=tmp_path / "cache")
    assert not (tmp_path / "ran").exists()


def test_git_runs_no_monitor_of_a_folder_and_fetches_no_submodule(repository, tmp_path, monkeypatch):
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    monitor.chmod(0o755)
    other = tmp_path / "other"
    write(other, secretly=function("fetched"))
    git(other, "init", "--quiet")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "one")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(other), "inside")
    git(repository, "commit", "--quiet", "-m", "three")
    git(repository, "config", "core.fsmonitor", str(monitor))
    for number, (key, value) in enumerate(
        [("submodule.recurse", "true"), ("protocol.file.allow", "always"), ("core.fsmonitor", str(monitor))]
    ):
        monkeypatch.setenv("GIT_CONFIG_COUNT", str(number + 1))
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{number}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{number}", value)
    (tmp_path / "ran").unlink(missing_ok=True)
    cloned = load_corpus(f"git:{repository}", ANY_SIZE, cache_dir=tmp_path / "cache")
    assert [file.path for file in cloned.files] == ["first.py", "second.py"]
    assert load_corpus(f"path:{repository}", ANY_SIZE).version == cloned.version
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "address",
    [
        "--upload-pack=touch /tmp/x", "-oProxyCommand=x", "ext::sh -c touch% x", "fd::17", "https://h/r@--x",
        "ftp://host/r", "::x",
    ],
)  # fmt: skip
def test_git_refuses_options_and_program_transports(address, tmp_path):
    with pytest.raises(CorpusError, match="refused git address"):
        load_corpus(f"git:{address}", cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_git_failures_are_one_sentence_and_leave_nothing(repository, tmp_path):
    cache = tmp_path / "cache"
    for address in (tmp_path / "nowhere", f"{repository}@no-such-tag"):
        with pytest.raises(CorpusError, match="git could not get the repository"):
            load_corpus(f"git:{address}", cache_dir=cache)
    assert not list(cache.iterdir())


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("https://host/o/r", ("https://host/o/r", "")),
        ("https://host/o/r@feature/x", ("https://host/o/r", "feature/x")),
        ("https://user@host/o/r.git@v1", ("https://user@host/o/r.git", "v1")),
        ("git@host:o/r.git", ("git@host:o/r.git", "")),
        ("git@host:o/r.git@v1", ("git@host:o/r.git", "v1")),
        ("ssh://git@host:22/o/r@abc", ("ssh://git@host:22/o/r", "abc")),
        ("../somewhere@v2", ("../somewhere", "v2")),
    ],
)
def test_revision_is_told_from_the_user_of_an_address(address, parts):
    assert split_revision(address) == parts


def test_passwords_never_reach_a_report(tmp_path):
    for given, public in (
        ("git:https://me:secret@host/o/r@v1", "git:https://host/o/r@v1"),
        ("git:https://me:sec@ret@host/o/r@v1", "git:https://host/o/r@v1"),
        ("git:https://me:sec/ret@host/o/r@v1", "git:https://host/o/r@v1"),
        ("git:https://secret@host", "git:https://host"),
        ("git:https://host:8443/o/r@v1", "git:https://host:8443/o/r@v1"),
        ("git:https://[::1]:8443/o/r@v1", "git:https://[::1]:8443/o/r@v1"),
        ("git:ssh://git@host:22/o/r@v1", "git:ssh://host:22/o/r@v1"),
        ("git:git@host:o/r@v1", "git:git@host:o/r@v1"),
        ("git:https://host/o/r?x=1&private_token=s/e?c#v1", "git:https://host/o/r?x=1&private_token=…#v1"),
        (
            "chat 'openai:m@https://host/v1?key=a%3D&api-key=b' x",
            "chat 'openai:m@https://host/v1?key=…&api-key=…' x",
        ),
        ("git:https://host/o/r?design=keyboard", "git:https://host/o/r?design=keyboard"),
    ):
        assert public_spec(given) == public
    with pytest.raises(CorpusError) as caught:
        load_corpus("git:https://me:secret@host/o/r@-x", cache_dir=tmp_path)
    assert "secret" not in str(caught.value)


def test_no_message_name_or_cached_file_holds_a_password(repository, tmp_path, monkeypatch):
    address, cache = "https://me:secret@host", tmp_path / "cache"
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{repository.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", address)
    corpus = load_corpus(f"git:{address}", ANY_SIZE, cache_dir=cache)
    assert (corpus.spec, corpus.name) == ("git:https://host", "host")
    assert [file.path for file in corpus.files] == ["first.py", "second.py"]
    for path in cache.rglob("*"):
        assert "secret" not in path.name
        assert not path.is_file() or b"secret" not in path.read_bytes()
    git(repository, "rm", "--quiet", "-r", ".")
    git(repository, "commit", "--quiet", "-m", "nothing left")
    bare = "https://me:secret@host"
    for wrong in (f"git:{address}", f"got:{bare}", bare, f"git:{bare}\0"):
        with pytest.raises(CorpusError) as caught:
            load_corpus(wrong, ANY_SIZE, cache_dir=cache)
        assert "secret" not in str(caught.value)
        assert "//host" in str(caught.value)


def test_what_git_says_of_a_failure_loses_the_password(tmp_path, monkeypatch):
    stand_in = tmp_path / "bin" / "git"
    stand_in.parent.mkdir()
    stand_in.write_text('#!/bin/sh\necho "fatal: no way to $*" >&2\nexit 1\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(stand_in.parent))
    with pytest.raises(CorpusError, match="fatal: no way to") as caught:
        run_git(["fetch", "https://me:secret@host/o/r"], cwd=tmp_path)
    assert "secret" not in str(caught.value)
    assert "https://host/o/r" in str(caught.value)


# --- zip -----------------------------------------------------------------------------------------


def archive(path: Path, members: dict[str, str], *, mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as stream:
        for name, text in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            stream.writestr(info, text)
    return path


def test_zip_steps_into_its_one_folder_and_is_unpacked_once(tmp_path):
    file = archive(tmp_path / "code.zip", {"repo-1/pkg/a.py": function("a"), "repo-1/LICENSE": "MIT"})
    cache = tmp_path / "cache"
    corpus = load_corpus(f"zip:{file}", ANY_SIZE, cache_dir=cache)
    assert ([f.path for f in corpus.files], corpus.name) == (["pkg/a.py"], "repo-1")
    assert (corpus.licence, corpus.version[:7]) == ("MIT", "sha256:")
    assert Path(corpus.root, "pkg/a.py").is_file()
    assert len(list(cache.iterdir())) == 1
    assert load_corpus(f"zip:{file}", ANY_SIZE, cache_dir=cache) == corpus
    assert len(list(cache.iterdir())) == 1


def test_zip_made_by_the_finder_equals_a_plain_one(tmp_path):
    members = {"my-tool/tool/a.py": function("a"), "my-tool/LICENSE": "MIT"}
    litter = {
        "__MACOSX/my-tool/._LICENSE": "\0\5\26\7", "__MACOSX/my-tool/tool/._a.py": "\0\5\26\7",
        ".DS_Store": "\0", "my-tool/__MACOSX/._b": "\0",
    }  # fmt: skip
    plain, made = (
        load_corpus(f"zip:{archive(tmp_path / f'{name}.zip', held)}", ANY_SIZE, cache_dir=tmp_path / "cache")
        for name, held in (("plain", members), ("mac", members | litter))
    )
    assert (
        (made.name, made.licence, made.sha256) == (plain.name, plain.licence, plain.sha256) != ("mac", "", "")
    )
    assert [file.path for file in made.files] == ["tool/a.py"]
    assert made.rejected == plain.rejected


def test_zip_that_git_archive_made_holds_tracked_files_alone(tmp_path, repository):
    write(repository, src__build__c=function("gamma"))
    (repository / ".gitignore").write_text("second.py\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "three")
    git(repository, "archive", "--format=zip", "--prefix=origin-1/", f"--output={tmp_path / 'a.zip'}", "HEAD")
    unpacked = load_corpus(f"zip:{tmp_path / 'a.zip'}", ANY_SIZE, cache_dir=tmp_path / "cache")
    assert [file.path for file in unpacked.files] == ["first.py", "second.py", "src/build/c.py"]
    assert unpacked.sha256 == load_corpus(f"path:{repository}", ANY_SIZE).sha256


@pytest.mark.parametrize("name", ["../evil.py", "a/../../evil.py", "/evil.py", "C:/evil.py", "..\\evil.py"])
def test_zip_refuses_paths_that_lead_outside(name, tmp_path):
    file = archive(tmp_path / "bad.zip", {"good.py": function("a"), name: "x = 1\n"})
    with pytest.raises(CorpusError, match="points outside"):
        load_corpus(f"zip:{file}", cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())
    assert not (tmp_path / "evil.py").exists()


def test_zip_refuses_symbolic_links(tmp_path):
    file = archive(tmp_path / "link.zip", {"link.py": "/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(CorpusError, match="symbolic link"):
        load_corpus(f"zip:{file}", cache_dir=tmp_path / "cache")


def test_zip_refuses_bombs_by_files_and_by_bytes(tmp_path, monkeypatch):
    file = archive(tmp_path / "bomb.zip", {f"f{i}.py": "0" * 1000 for i in range(20)})
    for limit, value in (("MAX_ARCHIVE_FILES", 19), ("MAX_ARCHIVE_BYTES", 19_999)):
        with monkeypatch.context() as patch:
            patch.setattr(f"helpers.data.corpus_spec.{limit}", value)
            with pytest.raises(CorpusError, match="unpacks to 20 files and 20000 bytes"):
                load_corpus(f"zip:{file}", cache_dir=tmp_path / "cache")


def test_zip_that_is_none_or_damaged(tmp_path):
    with pytest.raises(CorpusError, match="no archive"):
        load_corpus(f"zip:{tmp_path / 'none.zip'}")
    (tmp_path / "text.zip").write_text("not an archive")
    good = archive(tmp_path / "good.zip", {"a.py": function("a") * 50}).read_bytes()
    (tmp_path / "damaged.zip").write_bytes(good[:40] + bytes(10) + good[50:])
    for name in ("text.zip", "damaged.zip"):
        with pytest.raises(CorpusError, match="cannot unpack"):
            load_corpus(f"zip:{tmp_path / name}", cache_dir=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_cache_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "occupied").write_text("a file")
    file = archive(tmp_path / "code.zip", {"a.py": function("a")})
    with pytest.raises(CorpusError, match="cannot write the cache"):
        load_corpus(f"zip:{file}", cache_dir=tmp_path / "occupied")


# --- places that the system refuses to look at -------------------------------------------------

LONG = "n" * 300  # file systems take names of 255 bytes
TOKEN = "ghp_" + "t" * 5000  # longer than any path


@pytest.mark.parametrize(
    "spec",
    [
        f"path:{LONG}", f"zip:{LONG}.zip", f"installed:{LONG}", f"installed:json.{LONG}", "path:~no-such-user/x",
        "zip:~no-such-user/x.zip", f"path:/{'d/' * 3000}",
    ],
    ids=lambda spec: spec[:20],
)  # fmt: skip
def test_places_that_cannot_exist_are_corpus_errors(spec):
    for look in (load_corpus, check_place):
        with pytest.raises(CorpusError) as caught:
            look(spec)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "spec",
    [
        f"git:https://me:{TOKEN}@no-such-host.invalid/r", f"git:ftp://me:{TOKEN}@host/r",
        f"https://me:{TOKEN}@host/r", f"path:https://me:{TOKEN}@host/r", f"zip:https://me:{TOKEN}@host/r.zip",
        "git:https://me:ghp_short@no-such-host.invalid",
    ],
    ids=lambda spec: spec[:12],
)  # fmt: skip
def test_no_refusal_repeats_a_token(spec, tmp_path):
    with pytest.raises(CorpusError) as caught:
        load_corpus(spec, cache_dir=tmp_path / "cache")
    assert "ghp_" not in str(caught.value)


def test_a_long_token_is_part_of_its_address():
    assert split_revision(f"https://me:{TOKEN}@host/r@v1") == (f"https://me:{TOKEN}@host/r", "v1")
    assert split_revision("~no-such-user/r@v1") == ("~no-such-user/r", "v1")
    assert split_revision(f"{LONG}@v1") == (LONG, "v1")


def test_a_folder_that_may_not_be_searched_is_said(tmp_path, monkeypatch):
    """Modes do not bind root, so the system's answer is given here."""
    real = os.stat

    def refuse(path, *arguments, **options):
        if "closed" in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refuse)
    for spec in (f"path:{tmp_path}/closed/code", f"zip:{tmp_path}/closed/code.zip"):
        with pytest.raises(CorpusError, match=r"closed/code.*Permission denied"):
            check_place(spec)


def test_a_folder_or_archive_that_may_not_be_read_is_said_before_a_run(tmp_path, monkeypatch):
    file = archive(tmp_path / "code.zip", {"a.py": function("a")})
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    for spec in (f"path:{tmp_path}", f"zip:{file}"):
        for look in (check_place, load_corpus):
            with pytest.raises(CorpusError, match=r"cannot read.*Permission denied"):
                look(spec)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_stream_in_a_zip_is_said(method, tmp_path):
    file = tmp_path / "code.zip"
    with zipfile.ZipFile(file, "w", method) as writing:
        writing.writestr("a.py", "".join(function(f"f{i}") for i in range(200)))
    whole = bytearray(file.read_bytes())
    start = 30 + len("a.py")  # behind the entry's local header
    for seed in range(30):
        at = start + seed
        file.write_bytes(whole[:at] + bytes(b ^ 0xFF for b in whole[at : at + 40]) + whole[at + 40 :])
        with pytest.raises(CorpusError, match=r"cannot unpack .*code\.zip") as caught:
            load_corpus(f"zip:{file}", cache_dir=tmp_path / "cache")
        assert "None" not in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


# --- licences ------------------------------------------------------------------------------------


class FakeDistribution(Distribution):
    def __init__(self, metadata: str):
        self.text = textwrap.dedent(metadata)

    def read_text(self, filename):
        return self.text if filename == "METADATA" else None

    def locate_file(self, path):
        return Path("nowhere") / path


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ("License-Expression: MIT OR Apache-2.0\nLicense: other\n", "MIT OR Apache-2.0"),
        ("License: BSD\nClassifier: License :: OSI Approved :: MIT License\n", "MIT"),
        ("License: Apache 2.0\n", "Apache-2.0"),
        ("License: Something of my own\n", "Something of my own"),
        ("Classifier: License :: OSI Approved :: BSD License\n", "BSD License"),
        ("Name: x\n", "unknown"),
    ],
)
def test_licence_from_metadata(metadata, licence):
    assert licence_of_distribution(FakeDistribution(metadata)) == licence


def test_licence_from_texts():
    bsd = "Redistribution and use in source and binary forms, with or without modification, are permitted."
    assert licence_of_text(bsd) == "BSD-2-Clause"
    assert licence_of_text(bsd + "\nNeither the name of the holder may be used") == "BSD-3-Clause"
    assert (
        licence_of_text("Apache License\nVersion 2.0, January 2004\nhttp://www.apache.org/") == "Apache-2.0"
    )
    psf = "A. HISTORY OF THE SOFTWARE\nPYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n" + "x" * 60
    assert licence_of_text(psf + "\nPermission to use, copy, modify, and distribute this") == "PSF-2.0"
    assert (
        licence_of_text("\nA licence nobody knows, with its terms spelt out at some length here\n")[:9]
        == "A licence"
    )


def test_licence_of_a_folder(tmp_path):
    write(tmp_path, a=function("a"))
    (tmp_path / "COPYING").write_text("GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007\n" + "x" * 60)
    assert load_corpus(f"path:{tmp_path}", ANY_SIZE).licence == "GPL-3.0"
    (tmp_path / "pyproject.toml").write_text('[project]\nlicense = {text = "MIT"}\n')
    assert load_corpus(f"path:{tmp_path}", ANY_SIZE).licence == "MIT"
    (tmp_path / "pyproject.toml").write_text("not toml [")
    assert load_corpus(f"path:{tmp_path}", ANY_SIZE).licence == "GPL-3.0"


@pytest.mark.parametrize(
    ("licence", "words"),
    [
        ("unknown", "No licence was found"),
        ("LicenseRef-Proprietary", "reserves all rights"),
        ("CC-BY-NC-4.0", "excludes commercial use"),
        ("CC-BY-ND-4.0", "excludes adapted versions"),
        ("BUSL-1.1", "restricts how"),
        ("MIT AND PolyForm-Noncommercial-1.0.0", "excludes commercial use"),
        ("Something of my own", "was not recognised"),
    ],
)
def test_a_doubtful_licence_is_warned_of_with_care(licence, words):
    warning = licence_warning(licence)
    assert words in warning
    assert "not legal advice" in warning


@pytest.mark.parametrize(
    "licence",
    ["MIT", "BSD-3-Clause", "GPL-3.0-or-later", "MIT OR BUSL-1.1", "CC-BY-SA-4.0", "MPL-2.0 AND ISC"],
)
def test_an_open_licence_is_not_warned_of(licence):
    assert licence_warning(licence) == ""


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-8"])
def test_a_licence_is_read_in_every_encoding_that_editors_write(tmp_path, encoding):
    text = 'Permission is hereby granted, free of charge\n\nTHE SOFTWARE IS PROVIDED "AS IS"\n'
    (tmp_path / "LICENSE").write_bytes(f"MIT License\n\n{text}".encode(encoding))
    assert licence_of_folder(tmp_path) == "MIT"
    long = "".join(f'x{number} = "a long table of settings"\n' for number in range(2_000))
    project = f'[project]\nname = "x"\nlicense = "ISC"\n[tool.x]\n{long}'
    (tmp_path / "pyproject.toml").write_bytes(project.encode(encoding))
    assert licence_of_folder(tmp_path) == "ISC"


def test_licence_files_are_named_and_those_at_the_top_decide(tmp_path):
    write(tmp_path, a=function("a"))
    (tmp_path / "LICENSE.txt").write_text(
        "Copyright Somebody. All rights reserved. Proprietary and confidential."
    )
    (tmp_path / "bundled").mkdir()
    (tmp_path / "bundled" / "COPYING").write_text("MIT")
    (tmp_path / "pyproject.toml").write_text('[project]\nlicense = "MIT"\n')
    corpus = load_corpus(f"path:{tmp_path}", ANY_SIZE)
    assert corpus.licence_files == (("LICENSE.txt", "LicenseRef-Proprietary"), ("bundled/COPYING", "MIT"))
    assert corpus.licence == "MIT"
    assert "reserves all rights" in corpus_warnings(corpus)[0]
    (tmp_path / "LICENSE.txt").unlink()
    assert corpus_warnings(load_corpus(f"path:{tmp_path}", ANY_SIZE)) == []


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        (
            "PKG-INFO",
            "Metadata-Version: 2.1\nName: x\nClassifier: License :: OSI Approved :: MIT License\n",
            "MIT",
        ),
        ("package.json", '{"name": "x", "license": "Apache-2.0"}', "Apache-2.0"),
        ("package.json", '{"name": "x", "license": "UNLICENSED"}', "LicenseRef-Proprietary"),
        ("Cargo.toml", '[package]\nlicense = "MIT OR Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("package.json", "[]", "unknown"),
    ],
)
def test_licence_from_the_metadata_of_other_ecosystems(tmp_path, name, text, licence):
    write(tmp_path, a=function("a"))
    (tmp_path / name).write_text(text)
    assert load_corpus(f"path:{tmp_path}", ANY_SIZE).licence == licence
