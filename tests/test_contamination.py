"""Held-out code stops the build; pairs that share code with a benchmark are left out and counted."""

from __future__ import annotations

import gzip
import json

import pytest

from helpers.data.contamination import Benchmarks, ContaminationError, check_held_out, fingerprints

CODE = """def smallest_gap(numbers):
    best = None
    for left, right in zip(numbers, numbers[1:]):
        if best is None or right - left < best:
            best = right - left
    return best
"""
RENAMED = (
    CODE.replace("smallest_gap", "tightest")
    .replace("numbers", "row")
    .replace("best", "kept")
    .replace("    return", "    # done\n    return")
)
OTHER = CODE.replace("<", ">")
HUMAN_EVAL = {
    "task_id": "HumanEval/0", "prompt": CODE.split("    best")[0] + '    """Find the gap between one number and '
    'the one that follows it in the list given, and no other one."""\n',
    "entry_point": "smallest_gap", "canonical_solution": CODE.split("\n", 1)[1], "test": "def check(c):\n    pass\n",
}  # fmt: skip
MBPP = {"task_id": 1, "text": "Write it.", "code": CODE, "test_list": ["assert smallest_gap([1, 3]) == 2"]}


def written(path, rows):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


@pytest.mark.parametrize(("name", "row"), [("h.jsonl.gz", HUMAN_EVAL), ("m.jsonl", MBPP)])
def test_a_solution_is_known_again_under_other_names(tmp_path, name, row) -> None:
    benchmarks = Benchmarks([written(tmp_path / name, [row])])
    assert benchmarks.sources == {name: 1}
    for code in (CODE, RENAMED):
        assert benchmarks.reason("Fix it.", code) == "code of a benchmark"
    assert benchmarks.reason("Fix it.", OTHER) == ""
    assert Benchmarks().reason("Fix it.", CODE) == ""


def test_thirteen_words_in_a_row_are_too_many_and_twelve_are_not(tmp_path) -> None:
    benchmarks = Benchmarks([written(tmp_path / "h.jsonl", [HUMAN_EVAL])])
    words = [
        "Find",
        "the",
        "gap",
        "between",
        "one",
        "number",
        "and",
        "the",
        "one",
        "that",
        "follows",
        "it",
        "in",
    ]
    assert benchmarks.reason("Please: " + " ".join(words[:13]), "") == "13 words in a row of a benchmark"
    assert benchmarks.reason("Please: " + " ".join(words[:12]), "") == ""


def test_held_out_code_is_an_error_that_names_the_pairs() -> None:
    check_held_out([("train-0", "a.py::f", OTHER)], [("b.py::g", CODE)])
    for pair in (("train-1", "b.py::g", OTHER), ("train-1", "a.py::f", RENAMED)):
        with pytest.raises(ContaminationError, match="train-1"):
            check_held_out([("train-0", "a.py::f", OTHER), pair], [("b.py::g", CODE)])


def test_small_functions_are_compared_by_their_characters_alone() -> None:
    one, two = "def a(x):\n    return x\n", "def b(y):\n    return y\n"
    assert fingerprints(one).isdisjoint(fingerprints(two))
    assert fingerprints(one) == fingerprints("def a(x):  return x")
    assert fingerprints("") == set()


@pytest.mark.parametrize("text", ["", "no json\n", '{"no": "task"}\n'])
def test_files_that_hold_no_problems_are_named(tmp_path, text) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(ContaminationError, match=r"p\.jsonl"):
        Benchmarks([tmp_path / "p.jsonl"])
    with pytest.raises(ContaminationError, match="cannot be read"):
        Benchmarks([tmp_path / "missing.jsonl"])


def test_a_damaged_archive_is_named_and_a_byte_order_mark_is_none_of_the_text(tmp_path) -> None:
    row = json.dumps({"task_id": "x", "prompt": "def f(x):\n", "canonical_solution": "    return x\n"})
    (tmp_path / "p.jsonl").write_text(f"{row}\n", encoding="utf-8-sig")
    assert Benchmarks([tmp_path / "p.jsonl"])
    packed = bytearray(gzip.compress(f"{row}\n".encode() * 50))
    packed[20:30] = bytes(10)
    (tmp_path / "p.jsonl.gz").write_bytes(packed)
    (tmp_path / "deep.jsonl").write_text("[" * 100_000)
    for name in ("p.jsonl.gz", "deep.jsonl"):
        with pytest.raises(ContaminationError, match=f"{name} cannot be read"):
            Benchmarks([tmp_path / name])
