"""Older releases, from a package index served here: chosen by date, read as text, never run."""

from __future__ import annotations

import datetime
import hashlib
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from helpers.data import exposure as exposures
from helpers.data import older_release as releases
from helpers.data.corpus import load_corpus
from helpers.data.exposure import exposure
from helpers.data.older_release import NoOlderReleaseError, older_release
from helpers.settings import TINY_CODE_LM, CorpusSettings

QWEN = "Qwen/Qwen2.5-Coder-0.5B"
CUT_OFF = datetime.date(2024, 2, 1)
DAYS = {"1.0": "2023-05-01T00:00:00Z", "1.1": "2024-01-31T23:59:59Z", "2.0": "2024-02-01T00:00:01Z"}


def functions(stem: str, count: int = 20) -> str:
    return "".join(
        f"def {stem}_{n}(value):\n    return value + {n}  # {stem} number {n}\n\n\n" for n in range(count)
    )


OLD = {"kept.py": functions("kept"), "grown.py": functions("grown"), "renewed.py": functions("before")}
NEW = {
    "moved.py": functions("kept"),
    "grown.py": functions("grown").replace("value + 7 ", "value + 70 "),  # one line of sixty
    "renewed.py": functions("after") + "def before_3(value):\n",
    "added.py": functions("added"),
}
NEW["renewed.py"] += "    return value + 3  # before number 3\n"


def wheel(folder, version: str, files: dict[str, str]) -> str:
    name = f"odd_birds-{version}-py3-none-any.whl"
    info = f"odd_birds-{version}.dist-info"
    files = {f"odd_birds/{path}": text for path, text in files.items()}
    files |= {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: odd-birds\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return name


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """Return the address of an index of odd-birds 1.0, 1.1, 2.0 and of bare-birds, which has only sources."""
    root = tmp_path_factory.mktemp("index")
    page = root / "odd-birds"
    page.mkdir()
    links = []
    trap = {"__init__.py": "raise SystemExit('nothing of a release is run')\n"}
    for version, files in (("1.0", {"kept.py": "x = 1\n"}), ("1.1", OLD | trap), ("2.0", NEW | trap)):
        name = wheel(page, version, files)
        digest = hashlib.sha256((page / name).read_bytes()).hexdigest()
        links.append(f'<a href="{name}#sha256={digest}" data-upload-time="{DAYS[version]}">{name}</a>\n')
    (page / "index.html").write_text(f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>")
    bare = root / "bare-birds"
    bare.mkdir()
    (bare / "bare_birds-1.0.tar.gz").write_bytes(b"")
    link = f'<a href="bare_birds-1.0.tar.gz" data-upload-time="{DAYS["1.0"]}">bare_birds-1.0.tar.gz</a>'
    (bare / "index.html").write_text(f"<!DOCTYPE html><html><body>{link}</body></html>")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture
def asks(index, monkeypatch):
    """Make the local index the only one."""
    monkeypatch.setenv("UV_DEFAULT_INDEX", index)
    for name in ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return odd-birds 2.0, an installed package, as a corpus."""
    site = tmp_path / "site"
    site.mkdir()
    with zipfile.ZipFile(site / wheel(site, "2.0", NEW | {"__init__.py": ""})) as archive:
        archive.extractall(site)
    monkeypatch.syspath_prepend(str(site))
    return load_corpus("installed:odd_birds", CorpusSettings(min_file_bytes=1))


def test_the_newest_release_from_before_the_day_is_read_as_text(asks):
    found = older_release("odd-birds", CUT_OFF)
    assert (found.name, found.version) == ("odd-birds", "1.1")
    assert set(found.texts) == set(OLD.values())  # the trap defines nothing and was not run
    assert older_release("odd_birds", datetime.date(2024, 1, 31)).version == "1.0"


@pytest.mark.parametrize(
    ("name", "day"),
    [
        ("odd-birds", datetime.date(2023, 5, 1)),
        ("bare-birds", CUT_OFF),
        ("no-birds", CUT_OFF),
        ("-r", CUT_OFF),
    ],
)
def test_what_cannot_be_had_is_said(asks, name, day):
    with pytest.raises(NoOlderReleaseError, match=rf"cannot be reached or has no such release of {name}$"):
        older_release(name, day)


def test_without_network_tool_or_patience_it_is_said_too(monkeypatch):
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/")  # nobody listens there
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(NoOlderReleaseError, match="cannot be reached"):
        older_release("odd-birds", CUT_OFF)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as silent:  # accepts, never answers
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{silent.server_port}/")
        with pytest.raises(NoOlderReleaseError, match=r"no release of odd-birds arrived .* within 0\.5 s"):
            older_release("odd-birds", CUT_OFF, timeout_s=0.5)
    monkeypatch.setattr(releases.shutil, "which", lambda *a, **k: None)
    with pytest.raises(
        NoOlderReleaseError, match="uv, which chooses releases by their date, is not installed"
    ):
        older_release("odd-birds", CUT_OFF)


def test_new_and_much_changed_files_of_an_installed_package_are_the_slice(asks, installed):
    known = exposure(QWEN, installed)
    assert known.status == "partly_unseen"
    assert known.unseen == ("added.py", "renewed.py")
    assert known.note.startswith(
        "2 of 4 files are new or much changed since odd-birds 1.1, the newest release"
    )
    # Two of the 80 lines of renewed.py and added.py were in 1.1; moved.py equals a file of 1.1.
    assert "2% of their lines stood there, and 3 files differ at all" in known.note


def test_where_no_older_release_can_be_had_nothing_is_claimed(installed, monkeypatch):
    monkeypatch.setattr(releases.shutil, "which", lambda *a, **k: None)
    known = exposure(QWEN, installed)
    assert (known.status, known.unseen) == ("unknown", ())
    assert (
        "uv, which chooses releases by their date, is not installed), so that it may have seen" in known.note
    )
    assert "json comes from no package index" in exposure(QWEN, load_corpus("installed:json")).note


def test_nobody_is_asked_for_a_model_without_a_cut_off(installed, monkeypatch):
    monkeypatch.setattr(exposures, "older_release", lambda *a: pytest.fail("an index was asked"))
    assert exposure(TINY_CODE_LM, installed).status == "unseen"
    assert exposure("somebody/some-model", installed).status == "unknown"
