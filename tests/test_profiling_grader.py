"""The lab's grader on a problem of a fraction of a second: honest scripts pass, each cheat fails by its check."""

from __future__ import annotations

import collections
import importlib.util
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from toy_problem import FAST, SLOW, edited, write_toy_problem
from typer.testing import CliRunner

from helpers.__main__ import app
from helpers.profiling_lab import grader
from helpers.profiling_lab.grade_text import grade_lines
from helpers.profiling_lab.grade_types import Check, Grade
from helpers.profiling_lab.grader import STATUS, grade
from helpers.profiling_lab.problem import ProblemError, load_problem, problems_folder
from helpers.profiling_lab.profile_artefact import check_profile, read_profile
from helpers.profiling_lab.script_runner import RunnerError, ScriptRunner, script_runner

RUN = "    result, report = train(data, arguments.seed)\n"
SAVE = '    np.savez(arguments.output / "result.npz", **result)\n'
FORGED = "    np.savez(arguments.output / 'result.npz', **(result | {'centroids': %s}))\n"


def _pickled() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([collections.OrderedDict()], dtype=object), allow_pickle=True)
    return stream.getvalue()


OBJECTS = _pickled()
# Name -> (script, the check that refuses it).
CHEATS = {
    "as slow as before": (SLOW, "speed"),
    "figure made up": (edited(('{"accuracy": accuracy}', '{"accuracy": 0.31}')), "figures"),
    "figure NaN": (edited(('{"accuracy": accuracy}', '{"accuracy": float("nan")}')), "figures"),
    "figure negative": (edited(('{"accuracy": accuracy}', '{"accuracy": -accuracy}')), "figures"),
    "figure missing": (edited(('{"accuracy": accuracy}', '{"precision": accuracy}')), "figures"),
    "figure a text": (edited(('{"accuracy": accuracy}', '{"accuracy": str(accuracy)}')), "figures"),
    "report no JSON": (edited(("json.dumps(report)", "'{'")), "figures"),
    "NaN in the result": (edited((SAVE, FORGED % "np.full((2, 8), np.nan)")), "outputs"),
    "objects in the result": (edited((SAVE, FORGED % "np.array([None], dtype=object)")), "outputs"),
    "result forged": (
        edited((SAVE, '    (arguments.output / "result.npz").write_bytes(b"PK forged")\n')), "outputs",
    ),
    "result a link": (
        edited((SAVE, '    (arguments.output / "result.npz").symlink_to("/etc/passwd")\n')), "outputs",
    ),
    "no result": (edited((SAVE, "")), "outputs"),
    "output elsewhere": (edited(('arguments.output / "result.npz"', '"result.npz"')), "outputs"),
    "written to the system": (edited((RUN, RUN + "    try:\n        Path('/tmp/kept').write_text('')\n    except OSError:\n        pass\n")), "outputs"),
    "given data changed": (edited((RUN, RUN + "    np.savez('data.npz', **data)\n")), "outputs"),
    "wrong shape": (edited((SAVE, FORGED % "centroids[:1]".replace("centroids", "result['centroids']"))), "shapes"),
    "another seed": (edited(("train(data, arguments.seed)", "train(data, 7)")), "shapes"),
    # Some of each label: where eight rows happen to have one label, the other centroid is not even a number.
    "a part of the data": (edited(("points[rows][labels[rows] == label]", "points[rows][labels[rows] == label][:4]")), "whole_training"),
    "unseeded": (edited(('{"centroids": centroids,', '{"centroids": centroids + np.random.normal(scale=1e-9),')), "same_seed"),
    "wrong on fresh inputs": (
        edited(("    apart =", "    centroids = centroids[::-1]\n    apart =")), "fresh_inputs",
    ),
    "component renamed": (edited(("def centroid", "def middle"), ("stack([centroid(", "stack([middle(")), "components"),
    "component never called": (edited((
        "stack([centroid(points[rows][labels[rows] == label])",
        "stack([(points[rows][labels[rows] == label]).mean(axis=0)",
    ), ("def main", "UNUSED = [centroid]\n\n\ndef main")), "components_used"),
    "component wrong": (edited(("points.mean(axis=0)", "np.median(points, axis=0)")), "component_values"),
    "profile of itself": (edited(('runcall(slow["train"]', "runcall(train")), "profile"),
    "profile of less": (edited(('slow["train"], data', 'slow["train"], {k: v[:8] for k, v in data.items()}')), "profile"),
    "profile forged": (edited(('profile.dump_stats(arguments.output / "profile.pstats")', '(arguments.output / "profile.pstats").write_bytes(b"x")')), "profile"),
    "no profile": (edited(('        profile.dump_stats(arguments.output / "profile.pstats")\n', "")), "profile"),
    "trains on import": (edited(('if __name__ == "__main__":\n    main()', "main()")), "component_values"),
    "crash": (edited((RUN, RUN + "    raise ValueError('no')\n")), "runs"),
    "exit in the middle": (edited((RUN, RUN + "    raise SystemExit(3)\n")), "runs"),
    "too much memory": (edited((RUN, "    np.ones(2**29)\n" + RUN)), "runs"),
    "never ends": (edited((RUN, "    while True:\n        pass\n" + RUN)), "time_limit"),
    "code of its own, run from its folder": (edited((RUN, RUN + """    own = arguments.output / "own.py"
    own.write_text("import sys")
    runpy.run_path(str(own))
""")), "one_process"),
    "compiled code of its own": (edited((RUN, RUN + """    own = arguments.output / "own.py"
    own.write_bytes(MAGIC + bytes(12) + b"N")
    runpy.run_path(str(own))
"""), ("import numpy as np", "import numpy as np\n\nMAGIC = " + repr(importlib.util.MAGIC_NUMBER))), "one_process"),
    "objects through numpy": (edited((RUN, RUN + """    own = arguments.output / "own.npy"
    own.write_bytes(OBJECTS)
    np.load(own, allow_pickle=True)
"""), ("import numpy as np", "import numpy as np\n\nOBJECTS = " + repr(OBJECTS))), "one_process"),
    "component defined again when it counts": (edited(('if __name__ == "__main__":\n', """if __name__ == "__main__":

    def centroid(points):
        return points[0]

""")), "components"),
    "library patched through an alias": (edited((RUN, "    numpy = np\n    numpy.mean = None\n" + RUN)), "no_patching"),
}  # fmt: skip


@pytest.fixture(scope="module")
def problems(tmp_path_factory) -> Path:
    return write_toy_problem(tmp_path_factory.mktemp("problems"))


@pytest.fixture(scope="module")
def runner(problems) -> Iterator[ScriptRunner]:
    rules = load_problem("toy", problems)
    with script_runner(rules.preload, rules.memory_mb) as started:
        yield started


def graded(source: str | bytes, folder: Path, problems: Path, runner: ScriptRunner) -> Grade:
    path = folder / "fast.py"
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return grade("toy", path, problems=problems, runner=runner)


def test_an_honest_script_passes_every_check(tmp_path, problems, runner) -> None:
    found = graded(FAST, tmp_path, problems, runner)
    assert found.passed, grade_lines(found)
    assert found.status == "passed"
    assert found.failed is None
    assert found.speedup > 2
    assert found.interval[0] >= 2
    assert {check.name for check in found.checks} == set(STATUS) - {"time_limit"}
    assert all(check.evidence for check in found.checks)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["status"] == "passed"


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_fails_by_the_check_meant_for_it(name, tmp_path, problems, runner) -> None:
    source, check = CHEATS[name]
    found = graded(source, tmp_path, problems, runner)
    assert found.failed is not None, grade_lines(found)
    assert found.failed.name == check, grade_lines(found)
    assert found.status == STATUS[check]
    assert not found.passed
    assert (found.speedup is None) == (check != "speed")
    assert json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    "source", [b"\xff\xfe", b"def f(:", b"\x00", b"x = 1\n" * 20_000, b"(" * 5_000 + b")" * 5_000]
)
def test_what_is_no_script_is_unreadable(source, tmp_path, problems, runner) -> None:
    assert graded(source, tmp_path, problems, runner).status == "unreadable"


@pytest.mark.parametrize("name", ["absent.py", ".", "a\0b", "x" * 400])
def test_a_path_that_cannot_be_read_is_a_category_and_no_exception(name, tmp_path, problems, runner) -> None:
    found = grade("toy", tmp_path / name, problems=problems, runner=runner)
    assert found.status == "unreadable"
    assert len(found.checks) == 1


def test_a_sandbox_that_fails_says_nothing_about_the_submission(tmp_path, problems, monkeypatch) -> None:
    class Broken:
        def run(self, *_: object, **__: object) -> None:
            raise RunnerError("no more processes")

    found = graded(FAST, tmp_path, problems, Broken())
    assert found.status == "infrastructure_error"
    assert "nothing about the submission" in found.checks[-1].evidence


def test_no_such_problem_names_those_that_there_are(tmp_path, problems) -> None:
    with pytest.raises(ProblemError, match="choose one of toy"):
        grade("other", tmp_path / "x.py", problems=problems)


@pytest.mark.parametrize(
    ("file", "text"), [("problem.toml", "rows = "), ("task.py", "def :"), ("problem.toml", "")]
)
def test_a_damaged_problem_is_told(file, text, tmp_path) -> None:
    folder = write_toy_problem(tmp_path / "problems")
    (folder / "toy" / file).write_text(text)
    with pytest.raises(ProblemError, match="damaged"):
        load_problem("toy", folder)


@pytest.mark.parametrize(("passed", "status"), [(True, 0), (False, 1)])
def test_the_command_writes_the_grade_and_exits_by_it(passed, status, tmp_path, monkeypatch) -> None:
    checks = (Check("speed", passed, "measured"),)
    made = Grade("toy", "passed" if passed else "too_slow", passed, 3.0, (2.5, 3.5), checks)
    monkeypatch.setattr(grader, "grade", lambda *_: made)
    words = [
        "profiling",
        "grade",
        "--problem",
        "toy",
        "--submission",
        "x.py",
        "--json",
        str(tmp_path / "g.json"),
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == status, done.output
    assert json.loads((tmp_path / "g.json").read_text()) == json.loads(json.dumps(made.to_json()))
    assert "3.00 times as fast (95% interval 2.50 to 3.50)" in done.output


def test_torchs_own_profiler_gives_a_profile_that_fits_and_agrees() -> None:
    """On the most rows that a grading may draw, its trace must stay below what is read of a run."""
    rules = load_problem("torch")
    script = (rules.folder / "references" / "batched.py").read_text()
    old = script[script.index("    profile = cProfile") : script.index("\n\n\ndef main")]
    activities = "activities=[torch.profiler.ProfilerActivity.CPU], with_stack=True"
    script = script.replace(
        old,
        f"""    with torch.profiler.profile({activities}) as profile:
        slow["train"](data, seed)
    profile.export_chrome_trace(str(output / "profile.json"))""",
    )
    slow, data = rules.baseline.read_text(), rules.task.draw(1, rules.profile_rows[1], 2)
    with script_runner(rules.preload, rules.memory_mb) as runner:
        own, made = (runner.run(source, data, 3, 60.0, slow=slow) for source in (slow, script))
        (_, expected), (error, profile) = (read_profile(run, runner.read_pstats) for run in (own, made))
    assert error == "", made.said
    assert check_profile(profile, expected, slow)[0]


def test_work_that_is_done_only_with_the_seeds_that_were_watched_is_found(tmp_path) -> None:
    """The first two seeds are watched; a script that trains whole with those alone fails in a later pair."""
    folder = tmp_path / "torch"
    shutil.copytree(problems_folder() / "torch", folder)
    rules = (folder / "problem.toml").read_text()
    for old, new in (
        ("rows = 2000", "rows = 100"),
        ("tolerance = 0.02", "tolerance = 1.0"),
        ("bar = 2.0", "bar = 0.5"),
    ):
        assert old in rules
        rules = rules.replace(old, new)
    (folder / "problem.toml").write_text(rules)
    draw = np.random.default_rng(7)
    draw.integers(grader.SEEDS)
    watched = [int(seed) for seed in draw.integers(grader.SEEDS, size=100)][:2]
    script = (folder / "references" / "batched.py").read_text()
    assert script.count("range(EPOCHS)") == 1
    cheat = script.replace("range(EPOCHS)", f"range(EPOCHS if seed in {watched} else 5)")
    (tmp_path / "cheat.py").write_text(cheat)
    found = grade("torch", tmp_path / "cheat.py", problems=tmp_path, entropy=7)
    assert found.failed is not None, grade_lines(found)
    assert found.failed.name == "whole_training", grade_lines(found)
    assert any(f"in pair {number}" in found.failed.evidence for number in (3, 4, 5))
