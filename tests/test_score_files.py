"""`python -m helpers score`'s work: both formats, references, mutants, bad files."""

import gzip
import json

import pytest

from helpers.eval.score_files import ScoreError, complete, read_problems, score_files

HUMAN_EVAL = [
    {
        "task_id": "Own/0",
        "prompt": "from typing import List\n\n\ndef clip_sum(xs: List[int], top: int) -> int:\n    \"\"\" Sum of xs, each at most top.\n    >>> clip_sum([1, 9], 5)\n    6\n    \"\"\"\n",
        "entry_point": "clip_sum",
        "canonical_solution": "    total = 0\n    for x in xs:\n        total += min(x, top)\n    return total\n",
        "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 9], 5) == 6\n    assert candidate([], 5) == 0\n    assert candidate([7, 7], 7) == 14\n",
    },
    {
        "task_id": "Own/1",
        "prompt": "import math\n\n\ndef value(cs, x):\n    return sum(c * math.pow(x, i) for i, c in enumerate(cs))\n\n\ndef root(cs):\n    \"\"\" Zero of cs[0] + cs[1] x. \"\"\"\n",
        "entry_point": "root",
        "canonical_solution": "    return -cs[0] / cs[1]\n",
        "test": "def check(candidate):\n    for cs in ([1, 2], [-3, 4], [0.5, -8]):\n        assert math.fabs(value(cs, candidate(cs))) < 1e-9\n",
    },
]  # fmt: skip
MBPP = [
    {
        "task_id": 3, "text": "Sum the nodes.", "test_setup_code": "n = Node(1)\nn.next = Node(2)",
        "code": "class Node:\r\n  def __init__(self, v):\r\n    self.v = v\r\n    self.next = None\r\ndef total(n):\r\n  return n.v + total(n.next) if n else 0",
        "test_list": ["assert total(n) == 3", "assert total(None) == 0", "assert total(Node(5)) == 5"],
    },
    {
        "task_id": 4, "text": "Product.", "test_setup_code": "",
        "code": "def sum(a, b):\r\n  return a * b + 0",
        "test_list": ["assert sum(3, 4) == 12", "assert sum(-1, 4) == -4", "assert sum(2, 2) == 4", "assert sum(0, 7) == 0"],
    },
]  # fmt: skip


def write(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def run(tmp_path, problems, samples, ks=(1,), name="p.jsonl"):
    out = tmp_path / "r.jsonl"
    summary = score_files(
        write(tmp_path / name, problems), write(tmp_path / "s.jsonl", samples), ks, out, 2, 5.0
    )
    return summary, [json.loads(line) for line in out.read_text().splitlines()]


def test_references_pass_in_both_formats(tmp_path):
    samples = [{"task_id": p["task_id"], "completion": p["canonical_solution"]} for p in HUMAN_EVAL]
    summary, rows = run(tmp_path, HUMAN_EVAL, samples, name="p.jsonl.gz")
    assert [row["passed"] for row in rows] == [True, True], rows
    assert summary["pass_at_k"]["1"]["value"] == 1.0
    samples = [{"task_id": p["task_id"], "completion": p["code"]} for p in MBPP]
    summary, rows = run(tmp_path, MBPP, samples)
    assert [row["passed"] for row in rows] == [True, True], rows


def test_mutants_fail_and_pass_at_k_is_unbiased(tmp_path):
    first, second = (p["canonical_solution"] for p in HUMAN_EVAL)
    samples = [
        {"task_id": "Own/0", "completion": first, "note": 1},
        {"task_id": "Own/0", "completion": first.replace("min", "max")},
        {"task_id": "Own/0", "completion": first.replace("+=", "-=")},
        {"task_id": "Own/1", "completion": second.replace("-cs", "+cs")},
        {"task_id": "Own/1", "completion": second.replace("cs[1]", "cs[0]")},
        {"task_id": "Own/1", "completion": ""},
    ]
    summary, rows = run(tmp_path, HUMAN_EVAL, samples, ks=(1, 3, 4))
    assert [row["passed"] for row in rows] == [True, False, False, False, False, False]
    assert rows[0]["note"] == 1
    assert summary["pass_at_k"]["1"]["value"] == pytest.approx((1 / 3 + 0) / 2)
    assert summary["pass_at_k"]["3"]["value"] == 0.5
    assert summary["pass_at_k"]["4"]["value"] is None
    assert summary["statuses"] == {"failed": 5, "passed": 1}
    low, high = summary["pass_at_k"]["3"]["ci95"]
    assert 0 < low < 0.5 < high < 1


def test_helpers_of_the_prompt_are_not_the_samples_to_redefine(tmp_path):
    cheat = "    return 0\n\n\ndef value(cs, x):\n    return 0\n"
    summary, _ = run(tmp_path, HUMAN_EVAL, [{"task_id": "Own/1", "completion": cheat}])
    assert summary["statuses"] == {"failed": 1}
    assert summary["tasks_without_samples"] == ["Own/0"]


def test_chat_answers_are_understood(tmp_path):
    body, whole = HUMAN_EVAL[1]["canonical_solution"], "def root(cs):\n    return -cs[0] / cs[1]\n"
    completions = [f"Sure:\n```python\n{whole}```\nDone.", f"```python\n{HUMAN_EVAL[1]['prompt']}{body}```", whole,
                   f"```python\n{body.strip()}\n```", "```python\ndef root(cs):\n    return (\n```", "No idea."]  # fmt: skip
    _, rows = run(tmp_path, HUMAN_EVAL, [{"task_id": "Own/1", "completion": c} for c in completions])
    assert [row["passed"] for row in rows] == [True, True, True, True, False, False], rows


def test_completion_as_it_is_comes_first(tmp_path):
    problem = read_problems(write(tmp_path / "p.jsonl", HUMAN_EVAL))["Own/0"]
    assert complete(problem, "    return 1\n") == HUMAN_EVAL[0]["prompt"] + "    return 1\n"


@pytest.mark.parametrize(
    ("problems", "samples", "message"),
    [
        ("{}\n", None, "p.jsonl, line 1: neither"),
        ("\n[1]\n", None, "line 2: a JSON object"),
        ("{'a'}\n", None, "line 1: not JSON"),
        ("", None, "holds no problem"),
        (json.dumps(HUMAN_EVAL[0] | {"entry_point": 3}), None, "'entry_point' must be a string"),
        (json.dumps(HUMAN_EVAL[0] | {"test": "def check(:"}), None, "do not parse"),
        (
            json.dumps(HUMAN_EVAL[0]) + "\n" + json.dumps(HUMAN_EVAL[0]),
            None,
            "line 2: task_id 'Own/0' occurs twice",
        ),
        (json.dumps(MBPP[0] | {"test_list": []}), None, "'test_list'"),
        (json.dumps(MBPP[0] | {"code": "x = 1"}), None, "call no function"),
        (None, '{"task_id": "Own/9", "completion": ""}', "s.jsonl, line 1: task_id 'Own/9' is not among"),
        (None, '{"task_id": "Own/0"}', "'completion' must be a string"),
        (None, "", "holds no sample"),
    ],
)
def test_bad_files_are_named_with_their_line(tmp_path, problems, samples, message):
    p, s, out = tmp_path / "p.jsonl", tmp_path / "s.jsonl", tmp_path / "r.jsonl"
    p.write_text(problems if problems is not None else json.dumps(HUMAN_EVAL[0]))
    s.write_text(samples if samples is not None else '{"task_id": "Own/0", "completion": ""}')
    with pytest.raises(ScoreError, match=message.replace("'", ".")):
        score_files(p, s, (1,), out, 1, 1.0)
    assert not out.exists()


def test_missing_file_and_bad_k(tmp_path):
    with pytest.raises(ScoreError, match="cannot read"):
        score_files(tmp_path / "no.jsonl", tmp_path / "no.jsonl", (1,), tmp_path / "r", 1, 1.0)
    with pytest.raises(ScoreError, match="k must be"):
        score_files(tmp_path / "no.jsonl", tmp_path / "no.jsonl", (0,), tmp_path / "r", 1, 1.0)
