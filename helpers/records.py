"""The frozen records that steps pass to each other: corpus, pairs, tasks, scores.

A record holds data and at most a derived property. On disk a record is one JSON object
(`helpers.run.workspace.write_jsonl`), so its fields have plain types.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class SourceFile:
    """One accepted source file; `path` is relative to the corpus root, with forward slashes."""

    path: str
    text: str
    sha256: str  # of the UTF-8 bytes of `text`
    n_bytes: int
    language: str = "python"
    masked: tuple[str, ...] = ()  # kinds of the secrets that were replaced in `text`, one entry each


@dataclass(frozen=True)
class RejectedFile:
    """A file of the corpus that was not accepted; `reason` is one of the fixed phrases of the rules."""

    path: str
    reason: str
    detail: str = ""  # the evidence: the line that does not parse, the file it duplicates


@dataclass(frozen=True)
class FunctionLeftOut:
    """A function of an accepted file that was not cut out, or a place that may hold functions."""

    id: str  # as `Function.id`; only the path where the name cannot be told
    reason: str
    detail: str  # the line, and the grammar that was tried


@dataclass(frozen=True)
class Corpus:
    """The accepted and the rejected files of one code base."""

    spec: str
    name: str  # import name or folder name, for titles
    version: str  # package version or git revision, "" for none
    licence: str  # SPDX identifier or the text found, "unknown" for none
    root: str  # folder that paths are relative to; used to run code, never shown in reports
    import_name: str  # package prefix of module names, "" for a loose folder
    files: tuple[SourceFile, ...]
    rejected: tuple[RejectedFile, ...]
    sha256: str  # over the accepted files' (path, sha256), order-independent
    licence_files: tuple[tuple[str, str], ...] = ()  # (path, licence named in it), sorted


@dataclass(frozen=True)
class Function:
    """One function or method of the corpus; its source is dedented and otherwise as in the file."""

    id: str  # "path::qualname", unique in the corpus
    path: str
    module: str  # dotted module name, e.g. networkx.algorithms.dag
    qualname: str  # e.g. Graph.add_node
    name: str
    source: str  # dedented, decorators and comments kept, docstring kept
    code: str  # `source` with the docstring removed, otherwise the same characters
    docstring: str  # as inspect.cleandoc returns it, "" for none
    doctests: int  # number of >>> examples in the docstring
    parameters: tuple[str, ...]
    start_line: int  # 1-based, first decorator or def
    end_line: int
    is_method: bool
    is_nested: bool
    is_async: bool
    language: str = "python"  # or a language of `helpers.code.languages`


@dataclass(frozen=True)
class Splits:
    """The split of each file, and the functions and files that are not evaluated, with the reason."""

    split_of: dict[str, SplitName]  # file path -> split
    excluded_functions: dict[str, str] = field(default_factory=dict)  # function id -> reason
    excluded_files: dict[str, str] = field(default_factory=dict)  # file path -> reason


TaskKind = Literal["explain", "docstring", "fix_bug", "improve", "unit_tests", "implement"]
EXECUTABLE: tuple[TaskKind, ...] = ("fix_bug", "implement")  # their responses are judged by unit tests


@dataclass(frozen=True)
class InstructPair:
    """One training example: instruction, answer, and the checks that the answer passed."""

    id: str
    kind: TaskKind
    function_id: str
    path: str
    instruction: str  # the whole user turn
    response: str  # the whole assistant turn
    phrasing: int  # index of the instruction template
    verified: tuple[str, ...]  # checks that the response passed, e.g. ("parses", "tests: 7")
    # What verifying the pair again needs: the given and the correct code, a bug's operator, held-out mutants.
    detail: dict[str, str] = field(default_factory=dict)
    entry_point: str = ""
    prelude: str = ""  # this and the next two as in `Task`
    tests: str = ""
    n_cases: int = 0


@dataclass(frozen=True)
class RehearsedAnswer:
    """What the untouched model answered to a question about general code; nobody checked it."""

    id: str  # begins with what was asked for: "write" code, or "tell" something
    function: str  # "path::name" in the standard library
    instruction: str  # the whole user turn
    response: str = ""  # the whole assistant turn, once written


@dataclass(frozen=True)
class Task:
    """One held-out item of Track B. Tasks of executable kinds have tests; in others they are empty."""

    id: str
    kind: TaskKind
    function_id: str
    path: str
    instruction: str
    reference: str  # a response known to be right
    entry_point: str
    prelude: str  # code that must run before a candidate (module context)
    tests: str  # plain assert statements or a HumanEval-style check(candidate)
    n_cases: int
    detail: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResponseScore:
    """All that is measured on one response to one task."""

    task_id: str
    kind: TaskKind
    function_id: str
    sample: int  # 0 is the greedy response, 1..n the sampled ones
    response: str
    status: str  # passed | failed | timeout | crashed | infrastructure_error | unparsable | empty
    passed: bool
    style: float | None  # 0..1, None if no code in the response parses
    style_findings: tuple[str, ...]
    invented_names: tuple[str, ...]  # names, parameters, attributes that do not exist
    detail: str = ""
    killed_mutants: float | None = None  # share killed by generated tests; None for other kinds


@dataclass(frozen=True)
class TaskSetAside:
    """A task whose reference did not pass when it was scored; it is left out of every figure."""

    task_id: str
    kind: TaskKind
    function: str
    status: str  # as `ResponseScore.status`
    detail: str


@dataclass(frozen=True)
class Query:
    """A query in natural language and the functions (document ids) that answer it."""

    id: str
    text: str
    kind: str  # docstring_sentence, how_to, paraphrase, where_is, file_location
    relevant: dict[str, int]  # document id -> graded relevance, as trec_eval's qrels
    path: str
    name_overlap: float  # share of the query's words that occur in the function's name


@dataclass(frozen=True)
class Document:
    """One entry of the index: a function's code without its docstring."""

    id: str
    text: str
    path: str


CompletionKind = Literal["rest_of_line", "next_line", "block"]


@dataclass(frozen=True)
class CompletionItem:
    """One place in a held-out file, and what stands there: `text[start:end]` of that file."""

    id: str  # "path:line:kind"
    kind: CompletionKind
    path: str
    language: str
    line: int  # 1-based, on which the target begins
    start: int  # characters of the file before the target: its left context
    end: int
    target: str
    seen: bool  # the target stands word for word in the training side
    cross_file: bool  # it names something of the repository that its own file does not define

    @property
    def group(self) -> str:
        """Return the one group that the item is counted in: "seen" goes before "cross-file"."""
        return "seen" if self.seen else "cross-file" if self.cross_file else "other"


@dataclass(frozen=True)
class CompletionScore:
    """One completion and all that is measured on it."""

    item_id: str
    kind: str
    path: str
    arm: str
    text: str  # as cut by `completion_scores.cut_completion`
    context: tuple[str, ...]  # ids of what was put before the file, in that order
    group: str  # seen | cross-file | other, see `CompletionItem.group`
    exact_match: bool
    edit_similarity: float  # 1 - Levenshtein distance / length of the longer text
    identifier_f1: float
    parses: bool  # with the completion in the target's place, the file has no more syntax errors
    stops: bool  # the model ended by itself, at the target's number of lines and of open brackets
    first_token: bool
    accepted_characters: int  # length of the common beginning


@dataclass(frozen=True)
class Failure:
    """One diagnosed failure of the error analysis."""

    track: str
    category: str
    item_id: str
    input: str
    expected: str
    got: str
    diagnosis: str
