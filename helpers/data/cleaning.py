"""Which files of a code base are taken: the written rules, applied in the order of `RULES`.

Every file that is looked at ends up accepted or rejected with one fixed phrase that the data card
counts. Bytecode caches (`__pycache__`) and version-control folders are the tools' own, differ
from machine to machine and are not looked at.

The first rule that applies gives the reason. Path rules come first (nothing is opened), then
rules on the bytes, on the text, on the syntax tree, and at last the comparisons between files.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import io
import os
import re
import stat
import tokenize
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helpers.data.duplicates import earlier_likeness, file_tokens, shingles
from helpers.data.masking import mask_secrets
from helpers.progress import progress
from helpers.records import RejectedFile, SourceFile
from helpers.settings import CorpusSettings


@dataclass(frozen=True)
class Rule:
    """One reason for leaving a file (or a whole folder) out; `text` names the limits by setting."""

    reason: str  # the phrase in `RejectedFile.reason`
    text: str


# The rules, in the order in which they are tried. `{...}` are fields of CorpusSettings.
RULES: tuple[Rule, ...] = (
    Rule("excluded by pattern", "matches exclude={exclude}, or none of a given include={include}"),
    Rule("symbolic link", "not followed: its target is looked at by its own name, or lies outside"),
    Rule("hidden", "the name of the file or of its folder begins with a dot"),
    Rule("vendored", "inside a folder of copied code (vendor, _vendor, third_party, node_modules, ...)"),
    Rule("build output", "inside build, dist, *.egg-info or a virtual environment"),
    Rule("notebook", "a Jupyter notebook"),
    Rule("not Python", "another suffix than .py or .pyw (other languages, data, documents, type stubs)"),
    Rule("test", "below test/ or tests/, or named test_*.py, *_test.py, tests.py, conftest.py"),
    Rule("cannot be read", "not a regular file, or the system refuses to open it"),
    Rule("too large", "more than {max_file_bytes} bytes"),
    Rule("too small", "fewer than {min_file_bytes} bytes"),
    Rule("binary", "holds NUL bytes"),
    Rule("unknown encoding", "does not decode by its PEP 263 declaration, or as UTF-8 without one"),
    Rule("generated", "says so in its name (_pb2.py, _version.py, ...) or among its first 20 lines"),
    Rule("minified", "a line of more than {max_line_chars} characters"),
    Rule("Python 2", "does not parse, and shows syntax of Python 2"),
    Rule("does not parse", "not valid for the running Python; the line is given"),
    Rule("no function or class", "defines neither"),
    Rule("secret that cannot be masked", "would not parse with its secrets masked"),
    Rule("exact duplicate", "same text as an accepted file; the first path in sorted order stays"),
    Rule("near duplicate", "Jaccard similarity of 5-token shingles at least {near_duplicate_threshold} "
         "with an accepted file; the first path in sorted order stays"),
    Rule("over the file limit", "of more than {max_files}, those with the smallest SHA-256 of the path stay"),
)  # fmt: skip

IGNORED_FOLDERS = {"__pycache__", ".git", ".hg", ".svn"}
VENDORED_FOLDERS = {
    "vendor", "_vendor", "vendored", "_vendored", "third_party", "thirdparty", "3rdparty",
    "extern", "externals", "node_modules", "bower_components", "site-packages", "dist-packages",
}  # fmt: skip
BUILD_FOLDERS = {"build", "_build", "dist", "venv", "env", "__pypackages__", "htmlcov"}
TEST_FOLDERS = {"test", "tests"}
TEST_FILES = ("test_*.py", "*_test.py", "tests.py", "test.py", "conftest.py")
GENERATED_FILES = ("*_pb2.py", "*_pb2_grpc.py", "_version.py", "parsetab.py", "lextab.py")
# Prose speaks of generating things too, so outside comments only plain statements count.
GENERATED_ANYWHERE = re.compile(
    r"@generated\b|\b(?-i:DO NOT (?:EDIT|MODIFY))\b|\bdo not (?:edit|modify) (?:this file|by hand|manually)"
    r"|\bthis (?:file|module|code) (?:is|was|has been) (?:auto|automatically|machine)?[- ]?generated\b"
    r"|^\W*(?:auto-?|automatically |auto |machine[- ])generated\b",
    re.IGNORECASE | re.MULTILINE,
)
GENERATED_COMMENT = re.compile(
    r"#.*(?:\bdo not (?:edit|modify)\b|\b(?:auto-?|automatically |auto )generated\b"
    r"|\bgenerated (?:by|from|with|using)\b)",
    re.IGNORECASE,
)
PYTHON_2_MESSAGE = re.compile(
    r"Missing parentheses in call to '(?:print|exec)'|multiple exception types must be|leading zeros"
)
PYTHON_2_TEXT = re.compile(
    r"^\s*(?:print\s+[\"'\w]|print\s*>>|except\s+[\w.]+\s*,\s*\w+\s*:|raise\s+[\w.]+\s*,|exec\s+[\"'\w])|\bur['\"]",
    re.MULTILINE,
)


def rule_rows(settings: CorpusSettings) -> list[dict[str, str]]:
    """The rules with this run's limits filled in: rows of `reason` and `rule`, in order."""
    limits = vars(settings) | {"include": list(settings.include), "exclude": list(settings.exclude)}
    return [{"reason": rule.reason, "rule": rule.text.format(**limits)} for rule in RULES]


def clean_folder(
    root: Path, settings: CorpusSettings, *, only: str = ""
) -> tuple[tuple[SourceFile, ...], tuple[RejectedFile, ...]]:
    """Apply the rules to everything below `root`; both results are sorted by path.

    Args:
        root: an existing folder.
        settings: limits, patterns and the near-duplicate threshold.
        only: look at this one file of `root` alone (an installed single-module package).
    """
    candidates: list[tuple[str, Path]] = []
    rejected: list[RejectedFile] = []
    for path, location, verdict in sorted(_walk(root, only), key=lambda found: found[0]):
        reason = verdict or _path_reason(path, settings)
        if reason:
            rejected.append(RejectedFile(path, *_with_detail(reason)))
        else:
            candidates.append((path, location))
    readable: list[SourceFile] = []
    for path, location in progress(candidates, "reading files", unit="file"):
        result = read_source(path, location, settings)
        (readable if isinstance(result, SourceFile) else rejected).append(result)
    unique, duplicates = drop_duplicates(readable, settings.near_duplicate_threshold)
    kept, over_limit = limit_files(unique, settings.max_files)
    rejected += duplicates + over_limit
    return tuple(kept), tuple(sorted(rejected, key=lambda file: file.path))


def read_source(path: str, location: Path, settings: CorpusSettings) -> SourceFile | RejectedFile:
    """Read one file and apply the rules on its bytes, text and syntax tree.

    Newlines stay as they are in the file, so that sources can be quoted exactly; a byte order
    mark is dropped, and secrets are masked. `n_bytes` and `sha256` are of that text as UTF-8, whatever
    the file's encoding.
    """

    def no(reason: str, detail: str = "") -> RejectedFile:
        return RejectedFile(path, reason, detail)

    try:
        mode = location.lstat()
        if not stat.S_ISREG(mode.st_mode):
            return no("cannot be read", "not a regular file")
        if mode.st_size > settings.max_file_bytes:
            return no("too large", f"{mode.st_size} bytes")
        if mode.st_size < settings.min_file_bytes:
            return no("too small", f"{mode.st_size} bytes")
        data = location.read_bytes()
    except OSError as error:
        return no("cannot be read", error.strerror or "")
    if b"\0" in data:
        return no("binary")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        text = data.decode(encoding)
        encoded = text.encode("utf-8")  # a codec such as UTF-7 can yield lone surrogates
    except (SyntaxError, UnicodeError, LookupError) as error:
        return no("unknown encoding", str(error)[:120])
    head = "\n".join(text[:4000].splitlines()[:20])
    if any(fnmatch.fnmatch(location.name, pattern) for pattern in GENERATED_FILES):
        return no("generated", "by its name")
    if marker := GENERATED_ANYWHERE.search(head) or GENERATED_COMMENT.search(head):
        return no("generated", mask_secrets(" ".join(marker.group().split())).text[-80:])
    longest = max(map(len, text.splitlines()), default=0)
    if longest > settings.max_line_chars:
        return no("minified", f"a line of {longest} characters")
    tree = parse_python(text)
    if isinstance(tree, str):
        is_old = PYTHON_2_MESSAGE.search(tree) or PYTHON_2_TEXT.search(text)
        return no("Python 2" if is_old else "does not parse", tree)
    if not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in ast.walk(tree)
    ):
        return no("no function or class")
    masked = mask_secrets(text)
    if masked.kinds:
        encoded = masked.text.encode("utf-8")
        if isinstance(parse_python(masked.text), str):
            return no("secret that cannot be masked", ", ".join(sorted(set(masked.kinds))))
    digest = hashlib.sha256(encoded).hexdigest()
    return SourceFile(path, masked.text, digest, len(encoded), masked=masked.kinds)


def parse_python(text: str) -> ast.Module | str:
    """The syntax tree, or one line that says where and why there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the code under study are not ours
            return ast.parse(text)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}"
    except ValueError as error:
        return str(error)
    except (RecursionError, MemoryError):
        return "nested too deeply for the parser"


def drop_duplicates(files: list[SourceFile], threshold: float) -> tuple[list[SourceFile], list[RejectedFile]]:
    """Keep the first path (sorted) of each set of equal or nearly equal files.

    A file is dropped only for being near one that stays, so a chain of gradual changes does not
    pull its far end out. Equality is of SHA-256; nearness is the true Jaccard similarity of
    5-token shingles at or above `threshold`, candidates found by MinHash (see `duplicates`).
    """
    rejected: list[RejectedFile] = []
    first_with: dict[str, str] = {}
    unique: list[SourceFile] = []
    for file in sorted(files, key=lambda file: file.path):
        if file.sha256 in first_with:
            rejected.append(RejectedFile(file.path, "exact duplicate", f"of {first_with[file.sha256]}"))
        else:
            first_with[file.sha256] = file.path
            unique.append(file)
    sets = [shingles(file_tokens(file.text)) for file in progress(unique, "comparing files", unit="file")]
    kept: list[SourceFile] = []
    for file, original in zip(unique, earlier_likeness(sets, threshold), strict=True):
        if original is None:
            kept.append(file)
        else:
            rejected.append(RejectedFile(file.path, "near duplicate", f"of {unique[original].path}"))
    return kept, rejected


def limit_files(files: list[SourceFile], max_files: int) -> tuple[list[SourceFile], list[RejectedFile]]:
    """At most `max_files` files, chosen by the SHA-256 of their paths: no seed, no folder order."""
    ranked = sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).hexdigest())
    kept = {file.path for file in ranked[:max_files]}
    over = [RejectedFile(file.path, "over the file limit") for file in files if file.path not in kept]
    return [file for file in files if file.path in kept], over


def _walk(root: Path, only: str) -> Iterator[tuple[str, Path, str]]:
    """Yield (relative path, location, reason or ""): each file, and each folder not entered.

    An explicit stack instead of os.walk: folders may be nested deeper than Python recurses.
    """
    pending: list[tuple[str, Path]] = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            yield prefix or "./", folder, f"cannot be read: {error.strerror}"
            continue
        for entry in entries:
            # A name that is not UTF-8 is written with escapes: paths go into JSON and Markdown.
            path = prefix + os.fsencode(entry.name).decode("utf-8", "backslashreplace")
            location = Path(entry.path)
            if (only and path != only) or entry.name in IGNORED_FOLDERS:
                continue
            if entry.is_symlink():
                yield path, location, f"symbolic link: {_link_kind(location, root)}"
            elif entry.is_dir(follow_symlinks=False):
                reason = _folder_reason(location)
                if reason:
                    yield (
                        f"{path}/",
                        location,
                        f"{reason}: folder of {_count_files(location)} files, not entered",
                    )
                else:
                    pending.append((f"{path}/", location))
            else:
                yield path, location, ""


def _folder_reason(folder: Path) -> str:
    """Why a whole folder is left out; a package that happens to be called `build` is not."""
    name = folder.name
    if name.startswith("."):
        return "hidden"
    if name in VENDORED_FOLDERS:
        return "vendored"
    if name.endswith(".egg-info") or (folder / "pyvenv.cfg").is_file():
        return "build output"
    if name in BUILD_FOLDERS and not (folder / "__init__.py").is_file():
        return "build output"
    return ""


def _path_reason(path: str, settings: CorpusSettings) -> str:
    """The reason a file is rejected by its path alone, or ""."""
    parts = PurePosixPath(path)
    if any(fnmatch.fnmatch(path, pattern) for pattern in settings.exclude):
        return "excluded by pattern"
    if settings.include and not any(fnmatch.fnmatch(path, pattern) for pattern in settings.include):
        return "excluded by pattern: matches no include"
    if parts.name.startswith("."):
        return "hidden"
    if parts.suffix.lower() == ".ipynb":
        return "notebook"
    if parts.suffix.lower() not in (".py", ".pyw"):
        return f"not Python: {parts.suffix.lower() or 'no suffix'}"
    if TEST_FOLDERS.intersection(part.lower() for part in parts.parts[:-1]):
        return "test"
    if any(fnmatch.fnmatch(parts.name.lower(), pattern) for pattern in TEST_FILES):
        return "test"
    return ""


def _link_kind(location: Path, root: Path) -> str:
    try:
        target = location.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop is a RuntimeError before Python 3.13
        return "loop or missing target"
    return "within the corpus" if target.is_relative_to(root.resolve()) else "leads outside"


def _count_files(folder: Path) -> int:
    """Files below a folder that is not entered; stops counting at 100,000."""
    count, pending = 0, [folder]
    while pending and count < 100_000:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    else:
                        count += 1
        except OSError:
            continue
    return count


def _with_detail(reason: str) -> tuple[str, str]:
    phrase, _, detail = reason.partition(": ")
    return phrase, detail
