"""`python -m helpers score`: both formats, references, mutants, bad files."""

import gzip
import json

import pytest

from helpers.run.workspace import WorkspaceError
from helpers.tools.score import ScoreError, read_problems, score_samples, summarise, summary_text

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
    summary = score_samples(
        write(tmp_path / name, problems), write(tmp_path / "s.jsonl", samples), ks, out, 2, 5.0
    )
    return summary, [json.loads(line) for line in out.read_text().splitlines()]


MARKS = {
    "task_id": "Own/9",
    "prompt": "def strip_end(text: str) -> str:\n    \"\"\" Text before the end mark. \"\"\"\n",
    "entry_point": "strip_end",
    "canonical_solution": "    return text.split('<|im_end|>')[0]\n",
    "test": "def check(candidate):\n    assert candidate('a<|im_end|>b') == 'a'\n    assert candidate('ab') == 'ab'\n",
}  # fmt: skip


def test_right_answers_that_spell_special_tokens_pass(tmp_path):
    whole = f"{MARKS['prompt']}    # up to <|im_end|>\n{MARKS['canonical_solution']}"
    answers = [
        MARKS["canonical_solution"],
        MARKS["canonical_solution"] + "<|im_end|>\n<|im_start|>user\nmore",
        f"```python\n{whole}```\nThis works.",
        f"Here:\n```python\n{whole}```<|im_end|>",
        f'```python\nEND = """<|im_end|>"""\n\n\n{whole.replace(chr(39) + "<|im_end|>" + chr(39), "END")}```',
    ]
    samples = [{"task_id": "Own/9", "completion": answer} for answer in answers]
    _, rows = run(tmp_path, [MARKS], samples)
    assert [row["passed"] for row in rows] == [True] * len(answers), rows


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


def test_samples_cannot_redefine_the_helpers_of_the_prompt(tmp_path):
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


def test_a_completion_that_parses_is_used_unchanged(tmp_path):
    problem = read_problems(write(tmp_path / "p.jsonl", HUMAN_EVAL))["Own/0"]
    assert problem.program("    return 1\n") == HUMAN_EVAL[0]["prompt"] + "    return 1\n"


@pytest.mark.parametrize(
    ("problems", "samples", "message"),
    [
        ("{}\n", None, "p.jsonl, line 1: the row has neither"),
        ("\n1\n", None, "line 2: expected a JSON object"),
        ("[1]", None, "row 1: expected a JSON object"),
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
        score_samples(p, s, (1,), out, 1, 1.0)
    assert not out.exists()


def test_missing_file_and_bad_k(tmp_path):
    with pytest.raises(ScoreError, match="cannot read"):
        score_samples(tmp_path / "no.jsonl", tmp_path / "no.jsonl", (1,), tmp_path / "r", 1, 1.0)
    with pytest.raises(ScoreError, match="k must be"):
        score_samples(tmp_path / "no.jsonl", tmp_path / "no.jsonl", (0,), tmp_path / "r", 1, 1.0)


def test_a_place_that_cannot_be_written_is_said_before_anything_runs(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("helpers.tools.score.run_programs", lambda *given, **_: ran.append(given))
    p, s = write(tmp_path / "p.jsonl", HUMAN_EVAL[:1]), tmp_path / "s.jsonl"
    write(s, [{"task_id": "Own/0", "completion": ""}])
    for out in (p / "below.jsonl", tmp_path / ("n" * 300)):
        with pytest.raises(WorkspaceError, match="cannot write"):
            score_samples(p, s, (1,), out, 1, 1.0)
    assert ran == []


# What makes real files of these formats hard, in one problem each.
HARD = [
    {
        "task_id": "Own/10", "entry_point": "decode",
        "prompt": "def encode(s: str):\n    return s[::-1]\n\n\ndef decode(s: str):\n    \"\"\" Inverse of encode. \"\"\"\n",
        "canonical_solution": "    return s[::-1]\n",
        "test": "def check(candidate):\n    from random import randint, choice\n    import string\n    for _ in range(50):\n        s = ''.join(choice(string.ascii_lowercase) for i in range(randint(5, 9)))\n        assert candidate(encode(s)) == s\n",
    },
    {
        "task_id": "Own/11", "entry_point": "spread",
        "prompt": "import numpy as np\nfrom typing import List\n\ndef spread(xs: List[float]) -> float:\n",
        "canonical_solution": "    return float(np.std(xs))\n",
        "test": "def check(candidate):\n    assert abs(candidate([1.0, 3.0]) - 1.0) < 1e-9\n    assert candidate([2.0]) == 0.0, \"one\"\n    assert True, \"always\"\n",
    },
    {
        "task_id": "Own/12", "entry_point": "first_bad",
        "prompt": "def first_bad(xs):\n    '''\n    >>> first_bad([1, -1])\n    1\n    '''\n",
        "canonical_solution": "    for i, x in enumerate(xs):\n        if x < 0:\n            return i\n    raise ValueError('none is negative')\n",
        "test": "def check(candidate):\n    assert candidate([1, -1, -2]) == 1\n    try:\n        candidate([1])\n        assert False\n    except ValueError as e:\n        assert 'negative' in str(e)\n",
    },
    {
        "task_id": 601, "text": "Longest chain of pairs.", "test_setup_code": "", "challenge_test_list": ["assert False"],
        "code": "class Pair(object): \r\n\tdef __init__(self, a, b): \r\n\t\tself.a = a \r\n\t\tself.b = b \r\ndef chain(arr, n): \r\n\tbest = [1] * n\r\n\tfor i in range(1, n): \r\n\t\tfor j in range(0, i): \r\n\t\t\tif arr[i].a > arr[j].b: \r\n\t\t\t\tbest[i] = max(best[i], best[j] + 1)\r\n\treturn max(best)",
        "test_list": ["assert chain([Pair(5, 24), Pair(15, 25),Pair(27, 40), Pair(50, 60)], 4) == 3", "assert chain([Pair(1, 2), Pair(2, 3)], 2) == 1"],
    },
    {
        "task_id": 602, "prompt": "Area of a circle.", "source_file": "x", "test_imports": ["import math"],
        "code": "import math as m\ndef area(r):\n  return m.pi * r ** 2",
        "test_list": ["assert math.isclose(area(2), 12.566370614359172, rel_tol=0.001)", "assert area(0) == 0"],
    },
    {
        "task_id": 603, "text": "Match.", "test_setup_code": "",
        "code": "import re\ndef is_word(text):\n  return bool(re.search('^[a-z]+$', text))",
        "test_list": ["assert is_word('ab')", "assert not is_word('a b')", "assert is_word('') == (re.match('x', '') is not None)"],
    },
]  # fmt: skip
WRONG = {
    "Own/10": ["    return s\n", "    return encode(s)\n\ndef encode(s):\n    return s\n"],
    "Own/11": ["    return float(np.var(xs)) + 1e-6\n", "    return np.array([])\n"],
    "Own/12": ["    return 1\n", "    raise ValueError('negative')\n"],
    601: [HARD[3]["code"].replace(">", ">="), HARD[3]["code"].replace("+ 1)", "+ 2)")],
    602: ["def area(r):\n  return 3 * r ** 2", "def area(r):\n  return 12.57"],
    603: ["import re\ndef is_word(text):\n  return True", "def is_word(text):\n  return text"],
}


@pytest.mark.parametrize("name", ["p.jsonl", "p.jsonl.gz", "p.json"])
def test_hard_features_of_the_formats(tmp_path, name):
    if name == "p.json":
        problems = tmp_path / name
        problems.write_text(json.dumps(HARD, indent=2))
    else:
        problems = write(tmp_path / name, HARD)
    references = [
        {"task_id": p["task_id"], "completion": p.get("canonical_solution", p.get("code"))} for p in HARD
    ]
    wrong = [{"task_id": key, "completion": text} for key, texts in WRONG.items() for text in texts]
    samples = write(tmp_path / "s.jsonl.gz", [*references, *wrong])
    verdicts = []
    for workers in (1, 3):
        score_samples(problems, samples, (1,), tmp_path / "r.jsonl", workers, 5.0)
        verdicts.append([json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()])
    rows = verdicts[0]
    assert [row["task_id"] for row in rows if row["passed"]] == [p["task_id"] for p in HARD], rows
    assert all(row["status"] == "failed" for row in rows[len(HARD) :]), rows
    assert verdicts[0] == verdicts[1]


def test_equal_programs_run_once(tmp_path, monkeypatch):
    from helpers.tools import score as module

    ran = []
    real = module.run_programs
    monkeypatch.setattr(module, "run_programs", lambda some, **k: ran.extend(some) or real(some, **k))
    body = HUMAN_EVAL[0]["canonical_solution"]
    samples = [{"task_id": "Own/0", "completion": body, "n": n} for n in range(5)]
    summary, rows = run(tmp_path, HUMAN_EVAL, samples)
    assert len(ran) == 1
    assert [(row["n"], row["passed"]) for row in rows] == [(n, True) for n in range(5)]
    assert summary["samples_per_task"] == [5, 5]


def test_infrastructure_errors_count_neither_as_passed_nor_as_failed(tmp_path):
    problems = read_problems(write(tmp_path / "p.jsonl", HUMAN_EVAL))
    rows = [
        {"task_id": "Own/0", "status": status, "passed": status == "passed"}
        for status in ("passed", "failed", "infrastructure_error", "infrastructure_error")
    ]
    summary = summarise(rows, problems, (1, 2, 3))
    assert summary["pass_at_k"]["1"]["value"] == 0.5
    assert summary["pass_at_k"]["2"]["value"] == 1.0
    assert summary["pass_at_k"]["3"]["value"] is None
    assert summary["unscored_samples"] == 2
    text = summary_text(summary)
    assert "2 samples could not be run" in text
    assert "0.500   0.055 to 0.945" in text  # Wilson for half of one task, by hand
    assert "Own/1" in text
