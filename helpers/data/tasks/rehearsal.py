"""Write Track B's rehearsal: answers of the untouched model about general code, which it learns to keep.

A model that learns a repository's answers may lose others: its answers get as short as the pairs', whatever
is asked (docs/real-models.md). So some answers that it wrote itself, before training, are mixed in
(self-synthesised rehearsal, Huang et al. 2024, arXiv 2403.01244). Nobody checked what they claim. They show
what the model did, not what is right, and no figure is computed from them.

The questions are about functions of the standard library, in words that neither pairs nor tasks use.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from helpers.code.docstrings import stub
from helpers.code.extraction import defines, extract_code
from helpers.code.functions import functions_of_file
from helpers.data.contamination import Benchmarks, fingerprints
from helpers.data.general_code import MAX_BYTES, MIN_BYTES, standard_library_files
from helpers.data.tasks.execution import strip_decorators
from helpers.data.tasks.phrasings import fenced_python
from helpers.machine.hardware import Runtime
from helpers.models.causal_lm import chat_ids, generate
from helpers.models.tokens import token_ids
from helpers.records import Function, RehearsedAnswer
from helpers.settings import TrackBSettings

WRITE = (
    "Here is the start of a Python function. Write the whole function.\n\n{code}",
    "Write the Python function that this docstring describes, with the signature given.\n\n{code}",
    "Finish this function so that it does what its docstring says.\n\n{code}",
)
TELL = (
    "What is this Python function for, and when would I use it?\n\n{code}",
    "Is anything in this Python function wrong or risky?\n\n{code}",
    "How would you test this Python function?\n\n{code}",
)
WRITTEN_OF = (3, 4)  # of so many questions ask for code: what is lost first, and can be measured
DOCSTRING_CHARS = range(40, 800)  # shorter ones say too little to write the function
REJOINED = 8  # tokens that a text cut off may take less when it is tokenized as a whole
SPARE = 1.5  # questions asked for each answer wanted: some answers do not end in time, or hold no code


def write_rehearsal(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrackBSettings,
    runtime: Runtime,
    *,
    seed: int,
    held_out: Iterable[str] = (),
) -> list[RehearsedAnswer]:
    """Return up to `settings.rehearsed_answers` answers of `model`, the untouched one, greedily written.

    Question and answer take at most half of the tokens of the longest pair each. Answers that did not end in
    time are left out, and so is code that does not parse, is not the function that was asked for, or stands
    in one of `settings.benchmarks`.

    Args:
        held_out: code of held-out functions; functions of the standard library that equal one are left out,
            and so are those in the benchmarks.

    Raises:
        ContaminationError: for a benchmark file that cannot be read.
    """
    wanted = settings.rehearsed_answers
    if not wanted:
        return []
    room, problems = room_of(settings), Benchmarks(settings.benchmarks)
    asked = _questions(tokenizer, room, questions_asked(settings), seed, held_out, problems)
    texts = generate(
        model, tokenizer, [chat_ids(tokenizer, answer.instruction) for answer in asked], runtime,
        max_new_tokens=room, batch_size=settings.generation_batch, seed=seed,
        what="rehearsed answers",
    )  # fmt: skip
    kept = [
        RehearsedAnswer(one.id, one.function, one.instruction, answers[0].strip())
        for one, answers in zip(asked, texts, strict=True)
        if _ended(answers[0], tokenizer, room) and _holds_what_was_asked(one, answers[0], problems)
    ]
    return kept[:wanted]


def questions_asked(settings: TrackBSettings) -> int:
    """Return how many questions are asked for the answers wanted: some answers are left out."""
    return round(SPARE * settings.rehearsed_answers)


def room_of(settings: TrackBSettings) -> int:
    """Return the most tokens of a question, and of an answer: together they are no longer than a pair."""
    return (settings.max_prompt_tokens + settings.max_new_tokens) // 2


def rehearsal_report(settings: TrackBSettings) -> dict[str, Any]:
    """Return what the data card says of the rehearsal; nothing where none is asked for."""
    if not settings.rehearsed_answers:
        return {}
    return {
        "rehearsal": {
            "answers of the untouched model, at most": settings.rehearsed_answers,
            "questions asked": questions_asked(settings),
            "about": "public functions of Python's standard library, outside of classes, in files of "
            f"{MIN_BYTES:,} to {MAX_BYTES:,} bytes, with docstrings of {min(DOCSTRING_CHARS)} to "
            f"{max(DOCSTRING_CHARS)} characters, drawn with the seed",
            "share of questions that ask for code": WRITTEN_OF[0] / WRITTEN_OF[1],
            "left out": "answers that did not end in time, and code that is not the function asked for",
            "questions for code": list(WRITE),
            "other questions": list(TELL),
        }
    }


def _questions(
    tokenizer: PreTrainedTokenizerBase, room: int, n: int, seed: int, held_out: Iterable[str],
    problems: Benchmarks,
) -> list[RehearsedAnswer]:  # fmt: skip
    """Return `n` questions of at most `room` tokens, a seeded choice; fewer if there are not so many."""
    codes = {mark for code in held_out for mark in fingerprints(code)}
    drawn = random.Random(f"{seed}:rehearsal")
    functions = _functions()
    drawn.shuffle(functions)
    asked: list[RehearsedAnswer] = []
    for function in functions:
        if len(asked) == n:
            break
        if not codes.isdisjoint(fingerprints(strip_decorators(function.code))):
            continue
        if problems.reason(function.source, function.code):
            continue
        writes = len(asked) % WRITTEN_OF[1] < WRITTEN_OF[0]
        shown = stub(function.code, function.docstring) if writes else function.source
        instruction = drawn.choice(WRITE if writes else TELL).format(code=fenced_python(shown))
        # An answer is about as long as the function.
        if len(token_ids(tokenizer, function.source)) < room >= len(chat_ids(tokenizer, instruction)):
            kind = "write" if writes else "tell"
            asked.append(RehearsedAnswer(f"{kind}-{len(asked):04d}", function.id, instruction))
    return asked


def _functions() -> list[Function]:
    """Return the standard library's public functions with a docstring, by id."""
    found = {
        function.id: function
        for file in standard_library_files()
        for function in functions_of_file(file, file.path.removesuffix(".py").replace("/", "."))
        if len(function.docstring) in DOCSTRING_CHARS
        and not (function.is_method or function.is_nested or function.is_async)
        and not function.name.startswith("_")
    }
    return [found[name] for name in sorted(found)]


def _ended(text: str, tokenizer: PreTrainedTokenizerBase, room: int) -> bool:
    """Return whether an answer says something and ended by itself within `room` tokens.

    One that was cut off may take fewer tokens when it is tokenized as a whole, far fewer if it went on with
    white space.
    """
    ends_in_blanks = len(text) - len(text.rstrip()) > REJOINED
    return bool(text.strip()) and not ends_in_blanks and len(token_ids(tokenizer, text)) + REJOINED < room


def _holds_what_was_asked(question: RehearsedAnswer, text: str, benchmarks: Benchmarks) -> bool:
    """Return whether an answer holds the function, where code was asked for, and none of a benchmark's."""
    name = question.function.rpartition("::")[2].partition("#")[0]  # "name#2" is defined twice
    code = extract_code(text, entry_point=name)
    if question.id.startswith("write") and (code is None or not defines(code, name)):
        return False
    return not benchmarks.reason(f"{question.instruction}\n{text}", code or "")
