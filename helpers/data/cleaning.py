"""Decide which files of a code base are taken; `RULES` lists the reasons to leave one out.

Every file is either accepted, or rejected with one fixed phrase that the data card counts. The first rule
that applies gives the reason. Path rules come first (`helpers.data.walking`), then rules on the bytes, on
the text and on the syntax tree, and last the comparisons between files.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import io
import re
import stat
import tokenize
from pathlib import Path

from helpers.code.edits import SourceText
from helpers.code.functions import functions_of_file
from helpers.code.languages import language_of, syntax_fault
from helpers.code.near_duplicates import earlier_duplicates, file_tokens, shingles
from helpers.code.python_text import parse_or_reason
from helpers.code.secrets import mask_secrets
from helpers.data.git_rules import GitRules
from helpers.data.notebooks import MAX_FACTOR, notebook_code
from helpers.data.walking import NOTEBOOK, walk
from helpers.lines import bare_lines, with_newlines
from helpers.machine.progress import progress
from helpers.records import RejectedFile, SourceFile
from helpers.settings import CorpusSettings

# Some later steps walk a syntax tree recursively, with a few frames a level. The deepest of networkx has 19.
MAX_DEPTH = 150
# `RejectedFile.reason` -> rule, in the order in which rules are tried; `{...}` is a field of CorpusSettings.
RULES = {
    "excluded by pattern": "matches exclude={exclude}, or matches none of a given include={include}",
    "symbolic link": "not followed: its target is read under its own name, or lies outside",
    "submodule": "another git repository inside this one: a submodule, fetched or empty, or a clone",
    "ignored by git": "matches a rule in a .gitignore file, and git does not track it",
    "hidden": "the name of the file or of its folder begins with a dot",
    "vendored": "inside a folder of copied code (vendor, third_party, node_modules, ...), or so marked in "
        ".gitattributes; if git tracks the folder, its licences or manifests must say so, too",
    "build output": "inside build, dist, *.egg-info, a virtual environment or a marked cache; if git tracks "
        "the folder, a tool's mark or package.json must say so, too",
    "notebook": "a Jupyter notebook; its Python code cells are taken with corpus.notebooks=true "
        "(now: {notebooks}), unless it is damaged or in another language",
    "not source code": "its suffix belongs to no supported language (data, documents, type stubs)",
    "language not wanted": "its language is not among languages={languages}",
    "test": "below test/, tests/ or __tests__/, or named test_*.py, *_test.py, tests.py, conftest.py, "
        "*.test.ts, *_test.go, *Test.java and the like",
    "cannot be read": "not a regular file, or the system refuses to open it",
    "too large": "more than {max_file_bytes} bytes",
    "too small": "fewer than {min_file_bytes} bytes",
    "binary": "holds NUL bytes",
    "unknown encoding": "does not decode by its PEP 263 declaration, or as UTF-8 without one",
    "generated": "says so in its name (_pb2.py, .pb.go, ...), among its first 20 lines, by a source map "
        "or in .gitattributes",
    "minified": "a line of more than {max_line_chars} characters, or named *.min.js",
    "Python 2": "does not parse, and uses syntax of Python 2",
    "does not parse": "not valid for the running Python, or the grammar of its language does not fit "
        "over half of it; the line is given",
    "no function or class": "defines no function and no class",
    "secret that cannot be masked": "would no longer parse with its secrets masked",
    "defeats the reader": "parses, but is nested too deeply or cannot be cut into functions; with the fault",
    "exact duplicate": "has the same text as an accepted file; the first path in sorted order stays",
    "near duplicate": "Jaccard similarity of 5-token shingles at least {near_duplicate_threshold} "
        "with an accepted file; the first path in sorted order stays",
    "over the file limit": "only the {max_files} files with the smallest SHA-256 of the path stay",
}  # fmt: skip

GENERATED_FILES = (
    "*_pb2.py", "*_pb2_grpc.py", "_version.py", "parsetab.py", "lextab.py",
    "*.pb.go", "*.pb.cc", "*.pb.h", "*_pb.js", "*_pb.ts", "*.generated.*", "*_generated.*",
)  # fmt: skip
# Prose mentions generating things too, so only plain statements count outside comments.
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
OTHER_COMMENT = GENERATED_COMMENT.pattern.replace("#", r"(?://|/\*|^ *\*)", 1)
GENERATED_OTHER_COMMENT = re.compile(OTHER_COMMENT, re.IGNORECASE | re.MULTILINE)
SOURCE_MAP = re.compile(r"^//[#@] sourceMappingURL=", re.MULTILINE)
PYTHON_2_MESSAGE = re.compile(
    r"Missing parentheses in call to '(?:print|exec)'|multiple exception types must be|leading zeros"
)
PYTHON_2_TEXT = re.compile(
    r"^\s*(?:print\s+[\"'\w]|print\s*>>|except\s+[\w.]+\s*,\s*\w+\s*:|raise\s+[\w.]+\s*,|exec\s+[\"'\w])|\bur['\"]",
    re.MULTILINE,
)


def rule_rows(settings: CorpusSettings) -> list[dict[str, str]]:
    """Return the rules with this run's limits filled in: rows of `reason` and `rule`, in order."""
    limits = {
        name: f"[{','.join(v)}]" if isinstance(v, tuple) else v for name, v in vars(settings).items()
    }  # without blanks, so that a list stays in one code span
    return [{"reason": reason, "rule": rule.format(**limits)} for reason, rule in RULES.items()]


def clean_folder(
    root: Path, settings: CorpusSettings, *, only: str = "", git: GitRules | None = None
) -> tuple[tuple[SourceFile, ...], tuple[RejectedFile, ...]]:
    """Return the accepted and the rejected files below `root`, both sorted by path.

    Args:
        only: the only file of `root` to look at (an installed single-module package).
        git: what git says about `root`; None where that does not count.
    """
    found = sorted(walk(root, settings, only=only, git=git), key=lambda entry: entry[0])
    rejected = [RejectedFile(path, *_with_detail(reason)) for path, _, reason in found if reason]
    candidates = [(path, location) for path, location, reason in found if not reason]
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

    Newlines stay as they are, so that sources can be quoted exactly. A byte order mark is dropped, and
    secrets are masked. `n_bytes` and `sha256` describe that text as UTF-8, whatever the file's encoding.
    """

    def no(reason: str, detail: str = "") -> RejectedFile:
        return RejectedFile(path, reason, detail)

    is_notebook = location.suffix.lower() == NOTEBOOK
    largest = settings.max_file_bytes * (MAX_FACTOR if is_notebook else 1)
    try:
        mode = location.lstat()
        if not stat.S_ISREG(mode.st_mode):
            return no("cannot be read", "not a regular file")
        if reason := _size_reason(mode.st_size, settings.min_file_bytes, largest):
            return no(*_with_detail(reason))
        data = location.read_bytes()
        if is_notebook:
            data = notebook_code(data).encode("utf-8")
            if reason := _size_reason(len(data), settings.min_file_bytes, settings.max_file_bytes):
                return no(*_with_detail(f"{reason} of code"))
    except OSError as error:
        return no("cannot be read", error.strerror or "")
    except ValueError as error:
        return no("notebook", str(error)[:120])
    if b"\0" in data:
        return no("binary")
    language = "python" if is_notebook else language_of(path)
    try:
        is_python = language == "python"
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0] if is_python else "utf-8-sig"
        text = data.decode(encoding)
        encoded = text.encode("utf-8")  # a codec such as UTF-7 can yield lone surrogates
    except (SyntaxError, UnicodeError, LookupError) as error:
        return no("unknown encoding", str(error)[:120])
    if path not in settings.include and (reason := _machine_made(location.name, text, language, settings)):
        return no(*_with_detail(reason))
    if reason := _fault(text, language):
        return no(*_with_detail(reason))
    masked = mask_secrets(text, language)
    if masked.kinds:
        encoded = masked.text.encode("utf-8")
        if _fault(masked.text, language):
            return no("secret that cannot be masked", ", ".join(sorted(set(masked.kinds))))
    digest = hashlib.sha256(encoded).hexdigest()
    file = SourceFile(path, masked.text, digest, len(encoded), language, masked.kinds)
    error = _reader_error(file)
    return no("defeats the reader", error) if error else file


def _reader_error(file: SourceFile) -> str:
    """Return what goes wrong when the file's functions are read as later steps read them, or ""."""
    try:
        for function in functions_of_file(file, module=""):
            if file.language == "python":
                SourceText(function.code)
    except Exception as error:  # whatever it is: one file must not end the run
        return mask_secrets(f"{type(error).__name__}: {error}").text[:120]
    return ""


def _depth(tree: ast.AST) -> int:
    """Return how many nodes the longest path from the root has, without recursion."""
    depth, level = 0, [tree]
    while level:
        depth += 1
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _size_reason(n_bytes: int, smallest: int, largest: int) -> str:
    if n_bytes > largest:
        return f"too large: {n_bytes} bytes"
    return f"too small: {n_bytes} bytes" if n_bytes < smallest else ""


def _machine_made(name: str, text: str, language: str, settings: CorpusSettings) -> str:
    """Return why a text is generated or minified, with what was seen; "" where it is neither."""
    if any(fnmatch.fnmatch(name, pattern) for pattern in GENERATED_FILES):
        return "generated: by its name"
    head = "\n".join(bare_lines(text[:4000])[:20])
    comment = GENERATED_COMMENT if language == "python" else GENERATED_OTHER_COMMENT
    if marker := GENERATED_ANYWHERE.search(head) or comment.search(head):
        return "generated: " + mask_secrets(" ".join(marker.group().split())).text[-80:]
    if language != "python" and SOURCE_MAP.search(text[-2000:]):
        return "generated: names its source map"
    if fnmatch.fnmatch(name, "*.min.*"):
        return "minified: by its name"
    longest = max(map(len, bare_lines(text)), default=0)
    return f"minified: a line of {longest} characters" if longest > settings.max_line_chars else ""


def _fault(text: str, language: str) -> str:
    """Return why the syntax of a text rules it out, or ""."""
    if language != "python":
        return syntax_fault(text, language)
    tree = parse_or_reason(text)
    if isinstance(tree, str):
        is_old = PYTHON_2_MESSAGE.search(tree) or PYTHON_2_TEXT.search(with_newlines(text))
        return f"{'Python 2' if is_old else 'does not parse'}: {tree}"
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    if not any(isinstance(node, defined) for node in ast.walk(tree)):
        return "no function or class"
    depth = _depth(tree)
    return f"defeats the reader: nested {depth} deep; the limit is {MAX_DEPTH}" if depth > MAX_DEPTH else ""


def drop_duplicates(files: list[SourceFile], threshold: float) -> tuple[list[SourceFile], list[RejectedFile]]:
    """Keep the first path (sorted) of each set of equal or nearly equal files.

    A file is dropped only if it is near a file that stays, so the far end of a chain of gradual changes
    stays too. Near means a true Jaccard similarity of 5-token shingles of at least `threshold`; MinHash only
    finds the candidates (see `near_duplicates`).
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
    compared = list(zip(unique, earlier_duplicates(sets, threshold), strict=True))
    rejected += [
        RejectedFile(file.path, "near duplicate", f"of {unique[original].path}")
        for file, original in compared
        if original is not None
    ]
    return [file for file, original in compared if original is None], rejected


def limit_files(files: list[SourceFile], max_files: int) -> tuple[list[SourceFile], list[RejectedFile]]:
    """Return at most `max_files` files, chosen by the SHA-256 of their paths, and the files left out.

    The choice depends on neither a seed nor the order of folders.
    """
    ranked = sorted(files, key=lambda file: hashlib.sha256(file.path.encode()).hexdigest())
    kept = {file.path for file in ranked[:max_files]}
    over = [RejectedFile(file.path, "over the file limit") for file in files if file.path not in kept]
    return [file for file in files if file.path in kept], over


def _with_detail(reason: str) -> tuple[str, str]:
    phrase, _, detail = reason.partition(": ")
    return phrase, detail
