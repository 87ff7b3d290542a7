"""Resolve a corpus spec to a folder on disk, without running any of its code.

`installed:NAME` is looked up as the import system would; `path:DIR` is used in place; `git:URL[@rev]` and
`zip:FILE` are unpacked into a cache folder, completely or not at all. Addresses that could make git run a
program are refused, and so are archives that could write outside their folder or fill the disk.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import lzma
import os
import platform
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from helpers.data.licences import licence_of_distribution, licence_of_folder
from helpers.errors import SuiteError
from helpers.machine.cache_folder import default_cache_dir
from helpers.paths import expanded
from helpers.settings import public_spec

LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")  # what file managers add beside the one folder
MAX_ARCHIVE_FILES = 50_000
MAX_ARCHIVE_BYTES = 1_000_000_000  # unpacked size, as declared; zipfile reads no byte beyond it
CLONE_TIMEOUT_S = 600
GIT_SCHEMES = ("https://", "http://", "ssh://", "git://", "file://")
# What damage in an archive raises, by zipfile, by the decompressors (bz2: OSError) and for names and dates.
DAMAGE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, NotImplementedError, RuntimeError, EOFError,
    OSError, ValueError,
)  # fmt: skip
COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")  # SHA-1, SHA-256


class CorpusError(SuiteError, ValueError):
    """The corpus cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class ResolvedSpec:
    """A folder with code, and what is known about it besides its files."""

    root: Path
    name: str
    version: str
    licence: str
    import_name: str  # the package whose folder `root` is; "" for a loose folder
    only: str = ""  # the one file of `root` that is read, for an installed single module
    is_git_archive: bool = False  # every file in it is tracked


def resolve_spec(spec: str, cache_dir: Path | None = None) -> ResolvedSpec:
    """Resolve `spec`; `load_corpus` describes the forms and the cache.

    Raises:
        CorpusError: for an unknown form, or a package, folder, repository or archive that is missing,
            empty, unreadable or unsafe.
    """
    kind, separator, rest = spec.partition(":")
    resolvers = {"installed": _installed, "path": _path, "git": _git, "zip": _zip}
    if not separator or kind not in resolvers or not rest.strip():
        raise CorpusError(
            f"cannot read the corpus {public_spec(spec)!r}: write installed:PACKAGE, path:FOLDER, "
            "git:URL[@revision] or zip:FILE"
        )
    if "\0" in rest:
        raise CorpusError(f"cannot read the corpus {public_spec(spec)!r}: it holds a NUL character")
    return resolvers[kind](rest.strip(), cache_dir or default_cache_dir())


# --- installed -----------------------------------------------------------------------------------


def _installed(name: str, cache_dir: Path) -> ResolvedSpec:
    top, *below = name.split(".")
    spec = _find_spec(top)
    if spec is None and not below:  # perhaps the name of the distribution, as in installed:scikit-learn
        top = _import_name_of(name) or top
        spec = _find_spec(top)
    full_name = top
    for part in below:  # step by step: find_spec of a dotted name would import the parents
        full_name += f".{part}"
        locations = (spec.submodule_search_locations if spec else None) or []
        spec = importlib.machinery.PathFinder.find_spec(full_name, list(locations))
    if spec is None:
        how = "install it with pip, or name a folder as path:FOLDER"
        raise CorpusError(f"no installed package {public_spec(name)!r}: {how}")
    version, licence = _distribution_facts(top)
    if spec.submodule_search_locations:
        root = Path(next(iter(spec.submodule_search_locations)))
        return ResolvedSpec(root.resolve(), full_name, version, licence, full_name)
    if not spec.origin or not spec.origin.endswith(".py") or not Path(spec.origin).is_file():
        raise CorpusError(f"package {name!r} has no Python source here ({spec.origin}): choose another one")
    module, package = Path(spec.origin).resolve(), full_name.rpartition(".")[0]
    return ResolvedSpec(module.parent, full_name, version, licence, package, only=module.name)


def _find_spec(top: str) -> importlib.machinery.ModuleSpec | None:
    """Return a top-level module's spec without importing it."""
    try:
        return importlib.util.find_spec(top) if top.isidentifier() else None
    except (ImportError, ValueError):  # ValueError: loaded without a spec, as __main__ is
        return None


def _import_name_of(distribution: str) -> str | None:
    """Return the top-level package of a distribution (scikit-learn: sklearn); public names first."""
    wanted = _normalised(distribution)
    every = importlib.metadata.packages_distributions().items()
    modules = [top for top, owners in every if top.isidentifier() and wanted in map(_normalised, owners)]
    return min(modules, key=lambda module: (module.startswith("_"), module), default=None)


def _normalised(distribution: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _distribution_facts(top: str) -> tuple[str, str]:
    """Return (version, licence) of the distribution that owns a top-level module."""
    if top in sys.stdlib_module_names:
        return platform.python_version(), "PSF-2.0"
    owners = importlib.metadata.packages_distributions().get(top, [])
    if not owners:
        return "", "unknown"
    distribution = importlib.metadata.distribution(sorted(owners)[0])
    return distribution.version, licence_of_distribution(distribution)


# --- path ----------------------------------------------------------------------------------------


def check_place(spec: str) -> None:
    """Check that the package, folder or archive which a spec names is there; git addresses are not looked at.

    Raises:
        CorpusError: if it is not.
    """
    kind, _, place = spec.partition(":")
    if kind == "installed":
        _installed(place.strip(), Path())
    elif kind == "path":
        _folder(place)
    elif kind == "zip":
        _archive(place)


def _folder(folder: str) -> Path:
    root = _found(folder, "folder")
    if not root.is_dir():
        raise CorpusError(f"{folder!r} is a file: give the folder that holds the code, as path:FOLDER")
    return root


def _archive(file: str) -> Path:
    archive_path = _found(file, "archive")
    if not archive_path.is_file():
        raise CorpusError(f"no archive {file!r} (looked in {Path.cwd()}): it is no plain file")
    return archive_path


def _found(place: str, what: str) -> Path:
    """Return where a folder or archive lies; raise CorpusError unless it is there and may be read."""
    path, shown = expanded(place), f"{what} {public_spec(place)!r}"
    try:
        needed = os.R_OK | os.X_OK if stat.S_ISDIR(path.stat().st_mode) else os.R_OK
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise CorpusError(f"no {shown} (looked in {Path.cwd()}): check the spelling") from None
    except OSError as error:  # from None: the system's error quotes the place, and with it a password
        raise CorpusError(f"cannot look at the {shown}: {error.strerror}; name another one") from None
    if not os.access(path, needed):
        wrong = f"cannot read the {shown}: {os.strerror(errno.EACCES)}"
        raise CorpusError(f"{wrong}; change its mode, or copy it to a place of your own")
    return path


def _path(folder: str, cache_dir: Path) -> ResolvedSpec:
    root = _folder(folder)
    revision = ""
    if (root / ".git").exists():
        with suppress(CorpusError):  # without git, the version is not known
            revision = run_git(["rev-parse", "HEAD"], cwd=root)[:12]
    return _from_folder(root.resolve(), root.resolve().name, revision)


def _from_folder(root: Path, name: str, version: str) -> ResolvedSpec:
    is_package = (root / "__init__.py").is_file() and root.name.isidentifier()
    return ResolvedSpec(root, name, version, licence_of_folder(root), root.name if is_package else "")


# --- git -----------------------------------------------------------------------------------------


def _git(address: str, cache_dir: Path) -> ResolvedSpec:
    url, revision = split_revision(address)
    refused = f"refused git address {public_spec(address)!r}: "
    if url.startswith("-") or revision.startswith("-"):
        raise CorpusError(refused + "it begins like an option of git")
    if re.match(r"[\w+.-]*::", url):
        raise CorpusError(refused + "this transport runs a program; use https, ssh or a local path")
    if "://" in url and not url.startswith(GIT_SCHEMES):
        raise CorpusError(refused + f"use one of {', '.join(GIT_SCHEMES)} or a local path")
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    name = re.sub(r"\.git$", "", re.split(r"[/:]", public_spec(url).rstrip("/"))[-1]) or "repository"
    cached = cache_dir / f"git-{key}-{revision}" / name
    if COMMIT.fullmatch(revision) and os.path.isdir(cached):
        return _from_folder(cached, name, revision[:12])
    with _unpacking(cache_dir) as partial:
        checkout = partial / name
        checkout.mkdir()
        try:
            wanted = _fetch_revision(checkout, url, revision, "sha1")
        except CorpusError as error:
            if "mismatched algorithms" not in str(error):
                raise
            shutil.rmtree(checkout / ".git")
            wanted = _fetch_revision(checkout, url, revision, "sha256")
        run_git(["checkout", "--quiet", "--detach", wanted, "--"], cwd=checkout)
        commit = run_git(["rev-parse", "HEAD"], cwd=checkout)
        final = cache_dir / f"git-{key}-{commit}"
        if not final.is_dir():
            os.replace(partial, final)
    return _from_folder(final / name, name, commit[:12])


def _fetch_revision(checkout: Path, url: str, revision: str, algorithm: str) -> str:
    """Fetch a revision into a new repository with such object names, and return what to check out."""
    run_git(["init", "--quiet", "--template=", f"--object-format={algorithm}"], cwd=checkout)
    try:
        _fetch(checkout, "--depth=1", url, revision or "HEAD")
        return "FETCH_HEAD"
    except CorpusError as error:
        if not revision or "mismatched algorithms" in str(error):
            raise
        # A server does not accept an abbreviated commit: fetch all branches and look there.
        _fetch(checkout, "--tags", url, "+refs/heads/*:refs/remotes/origin/*")
        return revision


def split_revision(address: str) -> tuple[str, str]:
    """Split URL[@rev]. The @ of `user@host` or of an existing path is part of the address."""
    if os.path.exists(expanded(address)):  # unlike Path.exists, also False for names that are too long
        return address, ""
    host = re.match(r"(?:[\w+.-]+://[^/]*|[^/:]+:)", address)
    start = host.end() if host else 0
    url, _, revision = address[start:].partition("@")
    return address[:start] + url, revision


def _fetch(checkout: Path, how: str, url: str, what: str) -> None:
    local = expanded(url)
    target = str(local.resolve()) if os.path.exists(local) else url
    run_git(["fetch", "--quiet", "--no-recurse-submodules", how, "--", target, what], cwd=checkout)


def run_git(arguments: list[str], cwd: Path) -> str:
    """Return git's output, run without prompts, hooks, submodules, foreign transports or large files.

    Raises:
        CorpusError: if git is missing, fails or takes longer than CLONE_TIMEOUT_S.
    """
    environment = {
        **os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_ALLOW_PROTOCOL": "https:http:ssh:git:file", "LC_ALL": "C",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
    }  # fmt: skip
    for variable in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):  # set if a git hook started this process
        environment.pop(variable, None)
    hooks = f"core.hooksPath={os.devnull}"
    guards = (hooks, "core.fsmonitor=false", "submodule.recurse=false", "advice.detachedHead=false")
    options = [word for guard in guards for word in ("-c", guard)]
    try:
        done = subprocess.run(
            ["git", *options, *arguments], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, errors="replace", timeout=CLONE_TIMEOUT_S, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise CorpusError("git is not installed: install it, or give a folder as path:FOLDER") from error
    except subprocess.TimeoutExpired as error:
        why = f"git gave up after {CLONE_TIMEOUT_S} s: clone it yourself and use path:FOLDER"
        raise CorpusError(why) from error
    if done.returncode:
        said = public_spec(next(iter(done.stderr.strip().splitlines()), "no message"))
        raise CorpusError(f"git could not get the repository ({said}): check address, revision and network")
    return done.stdout.strip()


# --- zip -----------------------------------------------------------------------------------------


def _zip(file: str, cache_dir: Path) -> ResolvedSpec:
    archive_path = _archive(file)
    try:
        with archive_path.open("rb") as stream:
            key = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise CorpusError(f"cannot read the archive {file!r}: {error.strerror}") from error
    final = cache_dir / f"zip-{key[:32]}"
    if not final.is_dir():
        try:
            with zipfile.ZipFile(archive_path) as archive, _unpacking(cache_dir) as partial:
                members = _safe_members(archive, file)
                archive.extractall(partial, members)
                os.replace(partial, final)
        except CorpusError:
            raise
        except DAMAGE as error:
            raise CorpusError(f"cannot unpack {file!r} ({error}): is it a plain zip archive?") from error
    inner = sorted(path for path in final.iterdir() if path.name not in LITTER)
    root = inner[0] if len(inner) == 1 and inner[0].is_dir() else final
    found = _from_folder(root, archive_path.stem if root == final else root.name, f"sha256:{key[:12]}")
    return replace(found, is_git_archive=_is_git_archive(archive_path))


def _is_git_archive(archive_path: Path) -> bool:
    """Return whether git made an archive, as hosts of repositories do: its comment is the commit."""
    with zipfile.ZipFile(archive_path) as archive:
        return COMMIT.fullmatch(archive.comment.decode("utf-8", "replace")) is not None


def _safe_members(archive: zipfile.ZipFile, file: str) -> list[zipfile.ZipInfo]:
    """Return the archive's entries; raise CorpusError if one could leave the folder or fill the disk."""
    members = archive.infolist()
    for member in members:
        parts = PurePosixPath(member.filename.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts or re.match(r"[A-Za-z]:", member.filename):
            raise CorpusError(f"refused {file!r}: its entry {member.filename!r} points outside the archive")
        if stat.S_ISLNK(member.external_attr >> 16):
            link = f"its entry {member.filename!r} is a symbolic link"
            raise CorpusError(f"refused {file!r}: {link}; unpack it yourself and use path:FOLDER")
    total = sum(member.file_size for member in members)
    if len(members) > MAX_ARCHIVE_FILES or total > MAX_ARCHIVE_BYTES:
        raise CorpusError(
            f"refused {file!r}: it unpacks to {len(members)} files and {total} bytes; the limits are "
            f"{MAX_ARCHIVE_FILES} and {MAX_ARCHIVE_BYTES}"
        )
    return members


@contextmanager
def _unpacking(cache_dir: Path) -> Iterator[Path]:
    """Yield a fresh folder below the cache; it is removed unless it was renamed to its final name."""
    try:
        cache_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(prefix="partial-", dir=cache_dir))
    except OSError as error:
        why = f"cannot write the cache {cache_dir}: {error.strerror}; set XDG_CACHE_HOME"
        raise CorpusError(why) from error
    try:
        yield folder
    except OSError as error:
        if error.errno is None:  # not of the system: a decompressor's, or shutil's
            raise
        raise CorpusError(f"cannot unpack into {cache_dir}: {error.strerror}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
