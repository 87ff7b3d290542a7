"""No case whose answer depends on memory, hash seed, time, threads or locale gets into a task."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.code.functions import extract_functions
from helpers.data.corpus import load_corpus
from helpers.data.tasks import stability
from helpers.data.tasks.execution import (
    REFERENCE_STEPS,
    execution_context,
    import_line,
    module_prelude,
)
from helpers.data.tasks.stability import (
    TOO_DEAR,
    UNEXPLAINED,
    Doubt,
    Subject,
    examine_stability,
    explain_doubts,
)
from helpers.data.tasks.test_sets import draw_up_tests
from helpers.sandbox.api import Program, SandboxError, run_programs
from helpers.sandbox.examination import CaseResult, Cases, examine_cases
from helpers.sandbox.run_conditions import ALONE, BASE, VARIATIONS

FOLDER = Path(__file__).parent / "data" / "unstable"
STEADY = {"checked_double", "sorted_words", "steps_to_one"}
# These hold for some arguments: an empty set has only one order, an empty text only one hash.
PARTLY = {"bucket_of", "popped_numbers", "nodes_by_identity", "chosen_nodes", "distinct_words", "joined_tags", "first_names",
          "answers_as_they_come", "functions_in_order"}  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    from helpers.settings import CorpusSettings

    return load_corpus(f"path:{FOLDER}", CorpusSettings(min_file_bytes=1))


@pytest.fixture(scope="module")
def drawn(corpus):
    functions = [f for f in extract_functions(corpus) if f.path == "answers.py"]
    found = draw_up_tests(functions, import_line(corpus), execution_context(corpus), None, seed=1, workers=2)
    return {one.function.name: one for one in found}


def test_only_steady_functions_keep_cases(drawn) -> None:
    assert len(drawn) >= 20 + len(STEADY)
    kept = {name for name, one in drawn.items() if one.tests is not None}
    assert kept >= STEADY
    assert kept <= STEADY | PARTLY, sorted(kept - STEADY - PARTLY)


def test_kept_cases_hold_in_plain_interpreters_that_differ(drawn, tmp_path) -> None:
    """Run the cases in fifteen fresh interpreters, without the sandbox, its conditions or warm processes."""
    rng = random.Random(5)
    kept = [one for one in drawn.values() if one.tests is not None]
    program = "\n".join(
        f"def _run_{place}():\n    scope = {{}}\n    exec({module_prelude(one.function) + one.function.code!r}, scope)\n"
        f"    junk = [bytes(n) for n in sizes]\n    exec({one.tests.text!r}, scope)\n"
        f"    [v() for k, v in list(scope.items()) if k.startswith('test_')]\n_run_{place}()"
        for place, one in enumerate(kept)
    )
    for number in range(15):
        folder = tmp_path / ("d" * rng.randrange(1, 60))
        folder.mkdir(exist_ok=True)
        sizes = [rng.randrange(600) for _ in range(rng.randrange(2000))]
        script = folder / "s.py"
        script.write_text(f"import sys\nsys.path.insert(0, {str(FOLDER)!r})\nsizes = {sizes}\n{program}\n")
        environment = {"PATH": os.environ["PATH"], "PYTHONHASHSEED": str(rng.randrange(2**31)),
                       "LC_ALL": rng.choice(["C", "C.UTF-8", "xx_XX"]), "TZ": rng.choice(["UTC0", "AAA-9", "BBB7"]),
                       "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        done = subprocess.run(
            [sys.executable, str(script)],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"run {number}: {done.stderr[-600:]}"


CAUSES = {
    "on memory addresses": ("class O: pass\ndef f(n):\n    o = [O() for _ in range(n)]\n"
                            "    return [o.index(x) for x in set(o)]", "f(6)"),
    "on the hash seed": ("def f():\n    return list({'a', 'b', 'c', 'd', 'e', 'f'})", "f()"),
    "on time": ("import time\ndef f():\n    return int(time.time()) // 10**6", "f()"),
    "on the time zone": ("import time\ndef f():\n    return time.localtime(0).tm_hour", "f()"),
    "on the locale": ("import locale\ndef f():\n    return locale.getlocale()[0]", "f()"),
    "on the folder it runs in": ("import os\ndef f():\n    return len(os.getcwd())", "f()"),
    "on the depth of the stack": ("import sys\ndef f():\n    return sys.getrecursionlimit()", "f()"),
    "on the order of a module's names": ("import math, json, re, copy\ndef f():\n    return next(k for k in globals() if k[0] != '_')", "f()"),
    "on random numbers that nobody seeded": ("import random\ndef f():\n    return random.random()", "f()"),
    "on when garbage is collected": ("import gc\ndef f():\n    return gc.get_threshold()[0]", "f()"),
    "on what ran before it": ("seen = []\ndef f():\n    seen.append(1)\n    return len(seen)", "f()"),
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_found_when_it_alone_changes(cause) -> None:
    source, call = CAUSES[cause]
    check = Cases(
        source, "", (f"assert {call} == {_answer_under(BASE, source, call)}",), "f", max_steps=10_000
    )
    assert not _passes(check, ALONE[cause], rounds=6)
    if cause != "on what ran before it":
        assert _passes(check, BASE, rounds=1)


@pytest.mark.parametrize(
    "cause", ["on time", "on the time zone", "on the locale", "on the depth of the stack"]
)
def test_no_other_cause_is_blamed(cause) -> None:
    source, call = CAUSES[cause]
    check = Cases(
        source, "", (f"assert {call} == {_answer_under(BASE, source, call)}",), "f", max_steps=10_000
    )
    assert [name for name in ALONE if name != cause and not _passes(check, ALONE[name], rounds=1)] == []


# These hold in most processes, so what each depends on must vary widely enough.
SLIPS = {
    "duration by the date's clock": "import time\ndef f():\n    s = time.time()\n    sum(range(9))\n    return time.time() - s < 0.5",
    "minute": "import time\ndef f():\n    return time.gmtime().tm_min",
    "day of the week": "import datetime\ndef f():\n    return datetime.date.today().weekday()",
    "garbage": "import gc, weakref\nclass N: pass\ndef f():\n    n = N()\n    n.me, r = n, weakref.ref(n)\n    del n\n"
               "    x = [[] for _ in range(300)]\n    return r() is not None",
    "room on the stack": "def f(n=1100):\n    try:\n        return n and 1 + f(n - 1)\n    except RecursionError:\n        return -1",
    "assert": "def f(n=0):\n    try:\n        assert n > 0\n    except AssertionError:\n        return 1\n    return 2",
    "pool from before": "from concurrent.futures import ThreadPoolExecutor as T\nP = T(2)\nP.submit(int).result()\n"
                        "def f():\n    return P.submit(len, [1]).result()",
    "sleeper": "import time\ndef f():\n    time.sleep(.3)\n    return 1",
    "environment": "import os\ndef f():\n    return os.environ['PATH']",
}  # fmt: skip


@pytest.mark.parametrize("name", SLIPS)
def test_what_holds_in_most_processes_is_found_too(name, corpus) -> None:
    function = next(f for f in extract_functions(corpus) if f.name == "sorted_words")
    answer = _answer_under(BASE, SLIPS[name], "f()")
    subject = Subject(function, "", (f"assert f() == {answer}", "assert callable(f)"), (True, True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stability, "module_prelude", lambda _: SLIPS[name] + "\n")
        (found,) = examine_stability([subject], execution_context(corpus), workers=1)
    assert 0 in found.left_out
    assert 1 not in found.left_out or name == "pool from before"


def test_steps_go_on_after_a_callback_and_leave_imports_out() -> None:
    back = "def f(n, key):\n    key(n)\n    while True:\n        n += 1"
    caught = "def f(n):\n    try:\n        f(n)\n    except RecursionError:\n        pass\n    return n"
    imports = "def f(n):\n    import email.mime.text, fractions, decimal\n    return n"
    programs = [
        Program(back, "f(1, key=lambda x: x + 1)", "f", 60.0, 512, 20_000),
        Program(imports, "assert f(1) == 1", "f", 60.0, 512, 100),
    ]
    assert [o.status for o in run_programs(programs, workers=1)] == ["timeout", "passed"]
    (result,) = _examined(Cases(caught, "", ("f(1)",), "f", max_steps=20_000), BASE, rounds=2)
    assert result.steps > 20_000 or result.limit  # unknown, so never taken as few


def test_time_of_imports_is_not_held_against_a_case(tmp_path: Path) -> None:
    """A case that was first to import scipy was dear on one machine and not on another."""
    dear = "sum(range(5_000_000))"
    (tmp_path / "dear_to_import.py").write_text(f"x = {dear}\n")
    sources = {"imports": "import dear_to_import", "computes": f"x = {dear}"}
    cases = [Cases(f"def f():\n    {line}\n    return 1", "", ("assert f() == 1",), "f", max_steps=20_000)
             for line in sources.values()]  # fmt: skip
    imports, computes = (
        one[0].loops for one in examine_cases(cases, BASE, workers=1, python_path=[str(tmp_path)], rounds=1)
    )
    assert imports < computes / 5


@pytest.mark.parametrize("conditions", [BASE, *VARIATIONS])
def test_code_in_a_folder_of_any_letters_runs_under_all_conditions(tmp_path: Path, conditions) -> None:
    folder = tmp_path / "größe ∕ файл"
    folder.mkdir()
    (folder / "of_that_folder.py").write_text("VALUE = 1\n")
    source = "import of_that_folder\ndef f():\n    return of_that_folder.VALUE"
    case = Cases(source, "", ("assert f() == 1",), "f")
    (results,) = examine_cases([case], conditions, workers=1, python_path=[str(folder)])
    assert not results[0].trouble
    assert results[0].passed, results[0].detail


def test_the_sandboxs_own_trouble_is_no_reason_against_a_case(corpus, monkeypatch) -> None:
    steps = next(f for f in extract_functions(corpus) if f.name == "steps_to_one")
    subject = Subject(steps, "", ("assert steps_to_one(1) == 0",), (True,))
    broken = VARIATIONS[0]._replace(folder="no/such/folder")  # its temporary folder cannot be made
    assert examine_cases([stability._cases(subject, [0])], broken, workers=1)[0][0].trouble
    monkeypatch.setattr(stability, "VARIATIONS", (broken,))
    with pytest.raises(SandboxError, match="cannot be run under"):
        examine_stability([subject], execution_context(corpus), workers=1)


def test_reasons_are_named_and_a_dear_case_leaves_the_others(corpus) -> None:
    source = {f.name: f for f in extract_functions(corpus)}
    subjects = [
        Subject(source["hour_of"], "", ("assert hour_of(0) == 0", "assert isinstance(hour_of(0), int)"), (True, True)),
        Subject(source["checked_double"], "", ("assert checked_double(4) == 8",), (True,)),
        Subject(source["steps_to_one"], "", ("assert steps_to_one(1) == 0", "assert steps_to_one(2**60000) == 60000",
                                             "assert steps_to_one(3) == 8"), (False, False, False)),
    ]  # fmt: skip
    zone, steady, dear = examine_stability(subjects, execution_context(corpus), workers=2)
    assert zone.left_out == {0: UNEXPLAINED}
    (reasons,) = explain_doubts([Doubt(subjects[0], (0,))], execution_context(corpus), workers=1)
    assert reasons == {"answer depends on the time zone": 1}
    assert steady.left_out == {}
    assert dear.left_out == {1: TOO_DEAR, 2: "does not hold for the reference"}


def test_steps_are_the_same_number_every_time_and_end_a_program() -> None:
    source = "def f(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total"
    cases = Cases(
        source, "", ("assert f(10) == 45", "assert f(1000) == 499500"), "f", max_steps=REFERENCE_STEPS
    )
    runs = [[one.steps for one in _examined(cases, under, rounds=2)] for under in (BASE, BASE, VARIATIONS[0])]
    assert runs[0] == runs[1] == runs[2]
    # call, two lines, a header and a body a round, the header once more, return: 2n + 5
    assert runs[0] == [2 * 10 + 5, 2 * 1000 + 5]
    within = Program(source, "assert f(100) == 4950", "f", 5.0, 256, 2 * 100 + 5)
    beyond = Program(source, "assert f(100) == 4950", "f", 5.0, 256, 2 * 100 + 4)
    endless = Program(
        "def f(n):\n    while True:\n        n += 1", "assert f(1) == 1", "f", 60.0, 256, 20_000
    )
    assert [o.status for o in run_programs([within, beyond, endless], workers=1)] == [
        "passed",
        "timeout",
        "timeout",
    ]


def test_memory_is_handed_out_in_the_order_of_its_seed_alone() -> None:
    """Only another seed changes addresses, not earlier programs or other warm processes."""
    source = "class O: pass\ndef f(n):\n    kept = [O() for _ in range(n)]\n    return [id(o) >> 4 & 1023 for o in kept]"
    one, two, three = (
        _answer_under(BASE._replace(folder=folder), source, "f(30)") for folder in ("", "a", "b" * 70)
    )
    assert one == two == three
    assert _answer_under(BASE._replace(memory=9), source, "f(30)") != one


HISTORIES = """
import random
from helpers.sandbox.run_conditions import LARGEST_HASHED, POOL_BITS, arrange_memory
for history in range(8):
    rng = random.Random(history)
    made = [bytes(rng.randrange(LARGEST_HASHED)) for _ in range(rng.randrange(40_000))]
    left = rng.sample(made, len(made) // (history + 1))  # pools with many gaps, and with few
    made.clear()
    shares, filling = arrange_memory(3)
    print([id(one) & ((1 << POOL_BITS) - 1) for share in shares for one in share])
    del shares, filling, left
"""


def test_the_order_of_handed_out_memory_does_not_depend_on_what_a_process_did_before() -> None:
    """In a process of its own, as small as a warm one: gaps in much memory are not all filled."""
    done = subprocess.run([sys.executable, "-c", HISTORIES], capture_output=True, text=True, check=True)
    orders = done.stdout.splitlines()
    assert len(orders) == 8
    assert len(set(orders)) == 1
    assert orders[0].count(",") > 1_000


def _examined(check: Cases, conditions, *, rounds: int) -> tuple[CaseResult, ...]:
    """Examine again where the sandbox itself could not run a case, for example beside fork bombs."""
    for _ in range(10):
        results = examine_cases([check], conditions, workers=1, rounds=rounds)[0]
        if not any(one.trouble for one in results):
            return results
        time.sleep(1)
    raise AssertionError(f"the sandbox cannot run the case: {results[0].trouble}")


def _passes(check: Cases, conditions, *, rounds: int) -> bool:
    return all(one.passed for one in _examined(check, conditions, rounds=rounds))


def _answer_under(conditions, source: str, call: str) -> str:
    """Return the answer's source, read from the message of a failing case."""
    probe = Cases(source, "", (f"raise AssertionError(repr({call}))",), "f", max_steps=10_000)
    (result,) = _examined(probe, conditions, rounds=1)
    assert "AssertionError: " in result.detail, result
    return result.detail.partition("AssertionError: ")[2]
