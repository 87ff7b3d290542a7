"""The files that other tools write: problems and samples of the published forms, and what cannot be scored."""

import base64
import json
import pickle
import zlib

import pytest

from helpers.tools.score import ScoreError, score_samples, summary_text

DOUBLE = {
    "task_id": "Own/0", "prompt": "def double(x: int) -> int:\n    \"\"\" Twice x. \"\"\"\n", "entry_point": "double",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n    assert candidate(0) == 0\n",
}  # fmt: skip
BODY, WRONG = DOUBLE["canonical_solution"], "    return 6\n"
WHOLE = DOUBLE["prompt"] + BODY


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def scored(folder, problems, samples, ks=(1,)):
    """Score two texts or lists of rows; return the summary and the verdicts."""
    paths = [folder / "p.jsonl", folder / "s.jsonl"]
    for path, content in zip(paths, (problems, samples), strict=True):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else lines(content))
    summary = score_samples(*paths, ks, folder / "r.jsonl", 1, 5.0)
    return summary, [json.loads(line) for line in (folder / "r.jsonl").read_text().splitlines()]


SAMPLES = {
    "evalplus": [{"task_id": "Own/0", "solution": WHOLE}],
    "evalplus, several": [{"task_id": "Own/0", "solution": [WHOLE, WHOLE.replace("2 *", "3 *")]}],
    "completions": [{"task_id": "Own/0", "completion": [BODY, WRONG]}],
    "lm-eval": [{"doc_id": 0, "doc": DOUBLE, "target": "", "resps": [[BODY, WRONG]], "filtered_resps": [[WHOLE, WRONG]]}],
    "bigcode": json.dumps([[WHOLE, WHOLE.replace("2 *", "3 *")]]),
    "LiveCodeBench": json.dumps([{"question_id": "Own/0", "code_list": [WHOLE, WRONG]}]),
    "by task": json.dumps({"Own/0": [BODY, WRONG]}, indent=1),
    "UTF-16": ("\ufeff" + lines([{"task_id": "Own/0", "completion": BODY}])).encode("utf-16-le"),
}  # fmt: skip


@pytest.mark.parametrize("form", SAMPLES)
def test_samples_of_every_form_are_read(tmp_path, form):
    _, rows = scored(tmp_path, [DOUBLE], SAMPLES[form])
    assert [row["passed"] for row in rows] in ([True], [True, False]), rows
    assert all(row["task_id"] == "Own/0" and "doc" not in row for row in rows)


def test_a_parquet_file_is_read_and_a_broken_one_refused(tmp_path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([DOUBLE]), tmp_path / "x.parquet")
    sample = [{"task_id": "Own/0", "completion": BODY}]
    assert scored(tmp_path, (tmp_path / "x.parquet").read_bytes(), sample)[1][0]["passed"]
    with pytest.raises(ScoreError, match="begins like a Parquet file"):
        scored(tmp_path, b"PAR1" + bytes(100) + b"PAR1", sample)
    with pytest.raises(ScoreError, match=r"line 1: not JSON .* holds JSON lines"):
        scored(tmp_path, [DOUBLE], "task_id,completion\nOwn/0,return 1\n")


PLUS = {
    "task_id": 2, "code": "def top(xs):\n    return max(xs) if xs else None\n", "prompt": "Largest.", "test_imports": [],
    "test_list": ["assert top([1, 5, 2]) == 5"],
    "test": "inputs = [[[1, 5, 2]], [[]], [[-3, -7]]]\nresults = [5, None, -3]\nfor inp, exp in zip(inputs, results):\n    assert top(*inp) == exp\n",
}  # fmt: skip


def test_the_full_suite_of_mbpp_plus_decides(tmp_path):
    samples = [
        {"task_id": "Mbpp/2", "solution": PLUS["code"]},
        {"task_id": 2, "completion": "def top(xs): return 5"},
    ]
    _, rows = scored(tmp_path, [PLUS], samples)
    assert [row["passed"] for row in rows] == [True, False], rows


def test_evalplus_own_files_take_the_expected_values_from_the_reference(tmp_path):
    problem = {
        "task_id": "HumanEval/0", "prompt": "def half(x):\n    ''' Half of x. '''\n", "entry_point": "half", "contract": "",
        "canonical_solution": "    return x / 2\n", "base_input": [[3]], "plus_input": [[0.3], [10]], "atol": 0,
    }  # fmt: skip
    bodies = ["    return x / 2\n", "    return x * 0.5 + 1e-9\n", "    return x // 2\n", "    return 1.5\n"]
    _, rows = scored(tmp_path, [problem], [{"task_id": "HumanEval/0", "completion": body} for body in bodies])
    assert [row["passed"] for row in rows] == [True, True, False, False], rows
    with pytest.raises(ScoreError, match="line 1: 'base_input' and 'plus_input' must be"):
        scored(
            tmp_path,
            [problem | {"base_input": [], "plus_input": []}],
            [{"task_id": "HumanEval/0", "completion": ""}],
        )


PLUS_FILES = [  # of EvalPlus' own MBPP+: task, reference, input, a right and a wrong answer
    (2, "def similar_elements(a, b):\n    return tuple(set(a) & set(b))\n", [[3, 4, 5], [5, 4, 9]],
     "def similar_elements(a, b):\n    assert isinstance(a, tuple)\n    return [x for x in b if x in a]\n",
     "def similar_elements(a, b):\n    return (4,)\n"),
    (16, "import re\ndef text_match_three(s):\n    return re.search('ab{3}', s)\n", ["xabbb"],
     "def text_match_three(s):\n    return 'abbb' in s\n", "def text_match_three(s):\n    return None\n"),
    (124, "import cmath\ndef angle_complex(a, b):\n    return cmath.phase(a + b)\n", ["0.0", "1j"],
     "import math\ndef angle_complex(a, b):\n    return math.atan2((a + b).imag, a)\n", "def angle_complex(a, b):\n    return 1.5\n"),
    (115, "def empty_dit(xs):\n    return all(not x for x in xs)\n", [[[], [1]]],
     "def empty_dit(xs):\n    return xs == [{}, {}]\n", "def empty_dit(xs):\n    return xs == [[], [1]] or xs\n"),
    (580, "def evens(t):\n    return tuple(evens(x) if isinstance(x, tuple) else x for x in t if isinstance(x, tuple) or not x % 2)\n",
     [[4, 5, [7, [2]]]], "def evens(t):\n    return (4, ((2,),))\n", "def evens(t):\n    return [4, [[2]]]\n"),
    (722, "def tall(d, h):\n    return {k: v for k, v in d.items() if v >= (h,)}\n", [{"a": [6.2, 70], "b": [5.9, 65]}, 6.0],
     "def tall(d, h):\n    return {'a': (6.2, 70)}\n", "def tall(d, h):\n    return {'a': [6.2, 70]}\n"),
]  # fmt: skip


def test_evalplus_own_file_of_mbpp_has_tuples_sets_and_equalities_of_its_own(tmp_path):
    problems = [
        {"task_id": f"Mbpp/{task}", "prompt": '\n"""\nWrite it.\n"""\n', "entry_point": code.split("def ")[1].split("(")[0],
         "canonical_solution": code, "base_input": [given], "plus_input": [], "contract": "", "atol": 0}
        for task, code, given, _, _ in PLUS_FILES
    ]  # fmt: skip
    samples = [
        {"task_id": f"Mbpp/{task}", "solution": [right, wrong]} for task, _, _, right, wrong in PLUS_FILES
    ]
    _, rows = scored(tmp_path, problems, samples)
    assert [row["passed"] for row in rows] == [True, False] * len(PLUS_FILES), rows
    broken = problems[2] | {"base_input": [["0.0", "one"]]}
    with pytest.raises(ScoreError, match=r"line 1: the inputs are not those of this problem of MBPP\+"):
        scored(tmp_path, [broken], samples[2:3])


CLASS_EVAL = {
    "task_id": "ClassEval_0", "class_name": "Shop", "import_statement": ["import math"], "test_classes": ["ShopTest"],
    "skeleton": "import math\nclass Shop:\n    def add(self, name, price):\n        ''' Add an item. '''\n",
    "solution_code": "import math\nclass Shop:\n    def __init__(self):\n        self.items = {}\n    def add(self, name, price):\n        self.items[name] = price\n        return self\n    def total(self):\n        return math.fsum(self.items.values())\n",
    "test": "import unittest\n\nclass ShopTest(unittest.TestCase):\n    def test_add(self):\n        shop = Shop()\n        self.assertIs(shop.add('a', 1.5), shop)\n        self.assertEqual(shop.items, {'a': 1.5})\n    def test_total(self):\n        self.assertAlmostEqual(Shop().add('a', 1.5).add('b', 2).total(), 3.5)\n        self.assertIsInstance(Shop(), Shop)\n",
}  # fmt: skip


def test_class_eval(tmp_path):
    code = CLASS_EVAL["solution_code"]
    answers = [code, f"```python\n{code}```", code.replace("import math\n", ""), code.replace("fsum", "prod")]
    samples = [{"task_id": "ClassEval_0", "predict": answers}]
    _, rows = scored(tmp_path, [CLASS_EVAL], samples)
    assert [row["passed"] for row in rows] == [True, True, True, False], rows


def test_big_code_bench(tmp_path):
    problem = {
        "task_id": "BigCodeBench/0", "entry_point": "task_func", "instruct_prompt": "x", "libs": "['pandas']",
        "complete_prompt": "import pandas as pd\n\ndef task_func(path):\n    \"\"\" Means of a CSV file's columns. \"\"\"\n",
        "code_prompt": "import pandas as pd\ndef task_func(path):\n", "canonical_solution": "    return pd.read_csv(path).mean()\n",
        "test": "import os, tempfile, unittest\nclass TestCases(unittest.TestCase):\n    def setUp(self):\n        self.folder = tempfile.TemporaryDirectory()\n        self.path = os.path.join(self.folder.name, 'x.csv')\n        pd.DataFrame({'a': [1, 3]}).to_csv(self.path, index=False)\n    def tearDown(self):\n        self.folder.cleanup()\n    def test_a(self):\n        means = task_func(self.path)\n        self.assertIsInstance(means, pd.Series)\n        pd.testing.assert_series_equal(means, pd.Series({'a': 2.0}))\n",
    }  # fmt: skip
    whole = "import pandas as pd\ndef task_func(path):\n    return pd.read_csv(path).mean()\n"
    texts = [
        problem["canonical_solution"],
        whole,
        whole.replace("mean", "median").replace("path)", "path) * 2"),
    ]
    _, rows = scored(tmp_path, [problem], [{"task_id": "BigCodeBench/0", "solution": text} for text in texts])
    assert [row["passed"] for row in rows] == [True, True, False], rows


def test_multipl_e(tmp_path):
    problem = {"name": "HumanEval_0_double", "language": "py", "prompt": DOUBLE["prompt"], "stop_tokens": [],
               "tests": DOUBLE["test"] + "\ndef test_check():\n    check(double)\n\ntest_check()\n"}  # fmt: skip
    _, rows = scored(tmp_path, [problem], [{"name": "HumanEval_0_double", "completions": [BODY, WRONG]}])
    assert [row["passed"] for row in rows] == [True, False], rows
    with pytest.raises(ScoreError, match="line 1: the problem is in rs; only Python"):
        scored(tmp_path, [problem | {"language": "rs"}], [{"name": "HumanEval_0_double", "completion": BODY}])


def packed(cases):
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(cases)))).decode()


def test_live_code_bench(tmp_path):
    cases = [
        {"input": "2\n3 4\n", "output": "7.0\n", "testtype": "stdin"},
        {"input": "1\n5\n", "output": "5\n", "testtype": "stdin"},
    ]
    script = {"question_id": "a", "question_content": "Sum.", "starter_code": "", "metadata": "{}",
              "public_test_cases": json.dumps(cases[:1]), "private_test_cases": packed(cases[1:])}  # fmt: skip
    calls = [{"input": "[1, 2]\n3", "output": "[4, 5]", "testtype": "functional"}]
    method = {"question_id": "b", "question_content": "Add.", "metadata": json.dumps({"func_name": "add"}),
              "starter_code": "class Solution:\n    def add(self, xs: List[int], k: int) -> List[int]:\n",
              "public_test_cases": json.dumps(calls), "private_test_cases": "[]"}  # fmt: skip
    right = "import sys\nn = int(input())\nprint(sum(map(int, sys.stdin.readline().split())))\n"
    answer = "```python\nclass Solution:\n    def add(self, xs: List[int], k: int) -> List[int]:\n        return [x + k for x in xs]\n```"
    samples = [
        {
            "question_id": "a",
            "code_list": [right, right.replace("sum", "max"), "print(7)", f"```python\n{right}```"],
        },
        {"question_id": "b", "code_list": [answer, answer.replace("+", "-")]},
    ]
    _, rows = scored(tmp_path, [script, method], samples)
    assert [row["passed"] for row in rows] == [True, False, False, True, True, False], rows
    evil = base64.b64encode(zlib.compress(b"cos\nsystem\n(S'true'\ntR.")).decode()
    with pytest.raises(ScoreError, match="line 1: 'private_test_cases' is neither JSON"):
        scored(tmp_path, [script | {"private_test_cases": evil}], samples)


def test_what_a_program_may_read_from(tmp_path):
    case = [{"input": "2\n3 4\n", "output": "7\n", "testtype": "stdin"}]
    problem = {"question_id": "a", "question_content": "Sum.", "starter_code": "", "metadata": "{}",
               "public_test_cases": json.dumps(case), "private_test_cases": "[]"}  # fmt: skip
    answers = [
        "print(sum(map(int, open(0).read().split()[1:])))",
        "import os\nprint(sum(map(int, os.read(0, 999).split()[1:])))",
        "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split()[1:])))",
        "import sys\ninput = sys.stdin.readline\nn = input()\nprint(sum(map(int, input().split())))",
        "import sys\nfor line in sys.stdin:\n    last = line\nprint(sum(map(int, last.split())))\nsys.exit(0)",
    ]
    _, rows = scored(tmp_path, [problem], [{"question_id": "a", "code_list": answers}])
    assert [row["passed"] for row in rows] == [True] * 5, rows
    with pytest.raises(ScoreError, match=r"line 1: malformed test cases .*must be strings"):
        scored(tmp_path, [problem | {"public_test_cases": [{"input": 3, "output": 4}]}], [])


def test_a_function_serves_as_the_method_that_live_code_bench_asks_for(tmp_path):
    case = [{"input": "3", "output": "6", "testtype": "functional"}]
    problem = {"question_id": "b", "question_content": "Twice.", "metadata": json.dumps({"func_name": "double"}),
               "starter_code": "class Solution:\n    def double(self, x: int) -> int:\n",
               "public_test_cases": json.dumps(case), "private_test_cases": "[]"}  # fmt: skip
    answers = [WHOLE, f"```python\n{WHOLE}```", WHOLE.replace("2 *", "3 *"), BODY]
    _, rows = scored(tmp_path, [problem], [{"question_id": "b", "code_list": answers}])
    assert [row["passed"] for row in rows] == [True, True, False, False], rows


def test_future_imports_are_taken_wherever_they_stand(tmp_path):
    first = "from __future__ import annotations\n"
    tests = first + "def check(candidate):\n    assert candidate(2) == 3\n"
    problem = {"task_id": "x", "prompt": first + "def up(x: Never) -> Defined:\n    ''' One more. '''\n",
               "entry_point": "up", "canonical_solution": "    return x + 1\n", "test": tests}  # fmt: skip
    whole = problem["prompt"] + "    return x + 1\n"
    later = f'"A module."\nfrom __future__ import (\n    annotations,\n)\nimport math\n{whole[len(first) :]}'
    answers = [whole, f"Here:\n```python\n{whole}```", later, whole.replace("+ 1", "+ 2")]
    _, rows = scored(tmp_path, [problem], [{"task_id": "x", "completion": answers}])
    assert [row["passed"] for row in rows] == [True, True, True, False], rows


def test_files_that_defeat_the_json_reader_are_refused(tmp_path):
    with pytest.raises(ScoreError, match="line 1: not JSON"):
        scored(tmp_path, "[" * 100_000, [])
    _, rows = scored(tmp_path, [DOUBLE], [{"task_id": "Own/0", "completion": "    return '\ud800'\n"}])
    assert rows[0]["status"] == "failed"


ENTRIES = [
    ("check", "def check(n: int) -> bool:\n    ''' Whether n is odd. '''\n", "    return n % 2 == 1\n", "    return True\n",
     "def check(candidate):\n    assert candidate(3) is True\n    assert candidate(4) is False\n"),
    ("twice", "import asyncio\n\n\ndef step(x):\n    return x + 1\n\n\nasync def twice(x):\n    ''' step, two times '''\n",
     "    return step(step(x))\n", "    return step(x)\n", "import asyncio\n\ndef check(candidate):\n    assert asyncio.run(candidate(3)) == 5\n"),
    ("Stack", "LIMIT = 2\n\n\nclass Stack:\n    ''' At most LIMIT items. '''\n",
     "    def __init__(self):\n        self.items = []\n\n    def push(self, x):\n        self.items[LIMIT - 1 :] or self.items.append(x)\n        return len(self.items)\n",
     "    def __init__(self):\n        self.items = []\n\n    def push(self, x):\n        self.items.append(x)\n        return len(self.items)\n",
     "def check(candidate):\n    s = candidate()\n    assert [s.push(1), s.push(1), s.push(1)] == [1, 2, 2]\n    assert s.items == [1, 1]\n"),
    ("area", "import math\n\n\ndef area(r):\n", "    return math.pi * r\n", "    return 3 * r\n", "def test(candidate):\n    assert candidate(1) == math.pi\n"),
]  # fmt: skip


@pytest.mark.parametrize(("entry", "prompt", "body", "wrong", "tests"), ENTRIES, ids=[e[0] for e in ENTRIES])
def test_entry_points_of_every_kind(tmp_path, entry, prompt, body, wrong, tests):
    head = prompt[
        prompt.rindex("async def" if "async" in prompt else "class" if "class" in prompt else "def") :
    ]
    problem = {
        "task_id": "x",
        "prompt": prompt,
        "entry_point": entry,
        "canonical_solution": body,
        "test": tests,
    }
    answers = [body, f"Here:\n```python\n{head}{body}```\nDone.", wrong, f"```python\n{head}{wrong}```"]
    _, rows = scored(tmp_path, [problem], [{"task_id": "x", "completion": answers}])
    assert [row["passed"] for row in rows] == [True, True, False, False], rows


@pytest.mark.parametrize(
    ("completion", "passes"),
    [
        (BODY + "```\nExplanation", True),
        (BODY + "\nThe function doubles x.", True),
        (BODY + "\ndef double_test():\n    assert double(1) ==", True),
        (BODY + "<|endoftext|>def other(): pass", True),
        (BODY.rstrip() + "</s>", True),
        (BODY.rstrip() + "<|eot_id|><|start_header_id|>user", True),
        (BODY.rstrip() + "<｜end▁of▁sentence｜>", True),
        (BODY.rstrip() + "<end_of_turn>\n", True),
        ("    y = '</s><|eot_id|>'\n    return 2 * x if y[4] == '<' else 0</s>", True),
        ("return 2 * x\n", True),
        ("y = x\n    return y + x", True),
        ("```python\nreturn 2 * x\n```", True),
        ("    text = '''\n```\n'''\n    return 2 * x\n", True),
        ("    \u00a0return 2 * x\n", True),
        ("   \u00a0return 2\u00a0* x  # twice\u00a0x\n", True),
        ("\ufeff" + WHOLE.replace("return", "\u200breturn"), True),
        (BODY + "\nprint(double(input()))\n", True),
        (BODY + "\nimport sys\nn = int(sys.stdin.read())\nfor i in range(n):\n    print(double(i))\n", True),
        (BODY + "\ndef main():\n    print(double(int(input())))\nmain()\n", True),
        ("class Solution:\n    def double(self, x):\n        return 2 * x\n", True),
        (
            f"```python\nfrom typing import List\n\nclass Solution:\n    def double(self, x):\n    {BODY}```",
            True,
        ),
        ("class Solution:\n    def double(self, x):\n        return 6\n", False),
        (WRONG + "\nclass Solution:\n    def double(self, x):\n        return 2 * x\n", False),
        ("    return 6\n\nprint(double(input()))\n", False),
        ("    return 2 * x\n\nraise EOFError\n", False),
        ("    return 2 * x)\n", False),
        ("The answer is 2 * x.", False),
        ("```\n```", False),
    ],
)
def test_the_body_is_found_in_a_completion(tmp_path, completion, passes):
    _, rows = scored(tmp_path, [DOUBLE], [{"task_id": "Own/0", "completion": completion}])
    assert [row["passed"] for row in rows] == [passes], rows


def test_what_cannot_be_scored_counts_neither_way_and_is_told_by_reason(tmp_path):
    problems = [
        DOUBLE,
        DOUBLE | {"task_id": "broken", "test": DOUBLE["test"] + "    assert candidate(1) == 3\n"},
        DOUBLE | {"task_id": "module", "test": "import not_installed_q\n" + DOUBLE["test"]},
        DOUBLE
        | {
            "task_id": "fixture",
            "test": "def test_a(tmp_path):\n    assert double(1) == 2\n" + DOUBLE["test"],
        },
        DOUBLE | {"task_id": "only fixture", "test": "def test_a(capsys):\n    assert double(1) == 2\n"},
    ]
    samples = [{"task_id": p["task_id"], "completion": body} for p in problems for body in (BODY, WRONG)]
    summary, rows = scored(tmp_path, problems, samples)
    assert summary["statuses"] == {"failed": 1, "passed": 1, "unscorable": 8}
    assert summary["pass_at_k"]["1"]["value"] == 0.5
    assert summary["scored_tasks"] == 1
    assert list(summary["unscorable"].values()) == [["broken"], ["module"], ["fixture"], ["only fixture"]]
    assert "its own reference does not pass here: the tests: line" in rows[2]["detail"]
    text = summary_text(summary)
    for reason in (
        "its own reference does not pass here (broken)",
        "'not_installed_q', which is not installed",
        "takes 'tmp_path'",
    ):
        assert reason in text
    with pytest.raises(ScoreError, match=r"no task of .* can be scored; the first: it needs the module"):
        scored(tmp_path, problems[2:], samples[4:])


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        ("def verify(candidate):\n    assert candidate(1) == 2\n", "line 1: the tests never use 'double'"),
        ("x = 1\n", "line 1: the tests never use 'double'"),
        ("print(double(1) == 3)\n", "line 1: the tests assert nothing, so every answer would pass"),
        ("def check(candidate):\n    pass\n", "line 1: the tests never use 'double'"),
        ("class TestA:\n    def test_a(self):\n        assert 1\n", "line 1: the tests never use 'double'"),
        ("class Helper:\n    def run(self):\n        assert double(1) == 2\n", "line 1: the tests never use"),
    ],
)
def test_tests_that_test_nothing_are_refused(tmp_path, tests, message):
    with pytest.raises(ScoreError, match=message):
        scored(tmp_path, [DOUBLE | {"test": tests}], [{"task_id": "Own/0", "completion": BODY}])


def test_the_results_never_overwrite_an_input(tmp_path):
    scored(tmp_path, [DOUBLE], [{"task_id": "Own/0", "completion": BODY}])
    before = {name: (tmp_path / name).read_bytes() for name in ("p.jsonl", "s.jsonl")}
    for name in before:
        with pytest.raises(ScoreError, match=f"would overwrite .*{name}"):
            score_samples(tmp_path / "p.jsonl", tmp_path / "s.jsonl", (1,), tmp_path / name, 1, 1.0)
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
