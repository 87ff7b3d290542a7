"""Code digests of stages: the modules that a stage uses change its digest, and no others do."""

from __future__ import annotations

import ast
import dataclasses
import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import pytest

from helpers.profiles import LAPTOP
from helpers.run.code_identity import OURS, Sources, Used, code_digest
from helpers.settings import TwinSettings
from helpers.tracks import a, b, c, controls_a, controls_b, controls_c
from helpers.tracks.guards import Guards
from helpers.tracks.session import Session

ROOT = Path(__file__).parents[1]
TOY = {
    "__init__": '"""The toy package."""\n',
    "top": '"""Top."""\nfrom toy.deep import leaf\nfrom toy.deep.leaf import x as y\n\n\ndef run():\n    return leaf.x\n',
    "deep/__init__": "",
    "deep/leaf": "from . import beside\nfrom ..cycle_a import a\nx = 1\n",
    "deep/beside": "z = 3\n",
    "cycle_a": "import toy.cycle_b\na = 1\n",
    "cycle_b": "def b():\n    from toy import cycle_a, late\n    return cycle_a, late\n",
    "late": "def start(root):\n    return f'import sys; from toy.started import main; main({root!r})'\n",
    "started": "def main(): ...\n",
    "checked": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy.types_only import T\nelse:\n"
    "    from toy.deep import beside\n",
    "types_only": "T = int\n",
    "talks": '"""Beside `toy.top`."""\n\n\ndef f():\n    "See toy.top."\n    return 1  # toy.top\n',
    "alone": "w = 4\n",
}


@pytest.fixture
def toy(tmp_path: Path) -> Sources:
    for name, text in TOY.items():
        path = tmp_path / "toy" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Sources.read(tmp_path / "toy")


def modules_of(build: Callable[..., Any], sources: Sources = OURS) -> list[str]:
    """Return the names of the package's modules that `code_digest` of `build` covers."""
    return sources.closure(Used(build, sources).modules)


def changed(sources: Sources, module: str, old: str, new: str) -> Sources:
    assert old in sources.texts[module]
    return dataclasses.replace(
        sources, texts={**sources.texts, module: sources.texts[module].replace(old, new, 1)}
    )


def stage_of(module: str, code: str = "lambda out: run(out)") -> Callable[..., Any]:
    """Return a callable like a notebook's, in which `run` is a function of the toy's `module`."""

    def run(out: object) -> None: ...

    run.__module__ = module
    names = {"__name__": "__main__", "run": run, "partial": functools.partial}
    return eval(code, names)


def test_every_kind_of_import_is_followed_and_cycles_terminate(toy) -> None:
    reached = ["toy", "toy.cycle_a", "toy.cycle_b", "toy.deep", "toy.deep.beside", "toy.deep.leaf", "toy.late",
               "toy.started", "toy.top"]  # fmt: skip
    assert toy.closure(["toy.top"]) == reached
    assert toy.closure(["toy.cycle_b"]) == ["toy", "toy.cycle_a", "toy.cycle_b", "toy.late", "toy.started"]


def test_imports_for_type_checkers_and_prose_are_ignored(toy) -> None:
    assert toy.closure(["toy.checked"]) == ["toy", "toy.checked", "toy.deep", "toy.deep.beside"]
    assert toy.closure(["toy.talks"]) == ["toy", "toy.talks"]


def test_modules_are_not_reached_through_one_that_is_left_out(toy) -> None:
    without = dataclasses.replace(toy, left_out=frozenset({"toy.cycle_a"}))
    assert without.closure(["toy.top"]) == ["toy", "toy.deep", "toy.deep.beside", "toy.deep.leaf", "toy.top"]


@pytest.mark.parametrize(
    ("module", "old", "new", "other"),
    [
        ("toy.deep.leaf", "x = 1", "x = 2", True),
        ("toy.started", "...", "print()", True),
        ("toy.top", "leaf.x", "leaf.a", True),
        ("toy.alone", "w = 4", "w = 5", False),
        ("toy.top", '"""Top."""\n', "# another beginning\n\n", False),
        ("toy.top", "return leaf.x", "return  (leaf.x)  # as it is", False),
    ],
)
def test_only_reached_code_changes_the_digest(toy, module, old, new, other) -> None:
    stage = stage_of("toy.top")
    assert (code_digest(stage, changed(toy, module, old, new)) != code_digest(stage, toy)) == other


@pytest.mark.parametrize(
    "code",
    [
        "run",
        "lambda out: [run(one) for one in out]",
        "(lambda compute: lambda out: compute())(lambda: run(1))",
        "partial(print, run)",
        "lambda out, *, act=run: act(out)",
        "(lambda options: lambda out: options['act'](out))({'act': [run]})",
    ],
)
def test_functions_are_found_wherever_a_callable_holds_them(toy, code) -> None:
    assert modules_of(stage_of("toy.alone", code), toy) == ["toy", "toy.alone"]


def test_methods_objects_and_modules_count_and_a_package_counts_as_a_whole(toy) -> None:
    made = type("Made", (), {"__module__": "toy.alone", "act": lambda self, out: out})()
    assert modules_of(made.act, toy) == modules_of(lambda out: made.value, toy) == ["toy", "toy.alone"]
    module, package = ModuleType("toy.alone"), ModuleType("toy.deep")
    package.__path__ = []
    assert modules_of(lambda out: module.w, toy) == ["toy", "toy.alone"]
    assert "toy.deep.beside" in modules_of(lambda out: package.beside, toy)


def test_only_the_values_of_a_record_are_followed(toy) -> None:
    """A training reads pairs from an object whose class lies in the module that made them."""

    def made(module: str, held: object, **behaviour: object) -> object:
        kind = dataclasses.make_dataclass("Kind", ["held"], namespace=behaviour, frozen=True)
        kind.__module__ = module
        return kind(held)

    method = made("toy.alone", 1, act=lambda self: self.held)
    for value, modules in [
        (made("toy.alone", 1), []),
        (method, ["toy", "toy.alone"]),
        (made("toy.talks", [method]), ["toy", "toy.alone"]),
        (made("toy.alone", 1, doubled=property(lambda self: 2 * self.held)), ["toy", "toy.alone"]),
    ]:
        assert modules_of(lambda out, value=value: value.held, toy) == modules


def test_a_function_defined_in_the_notebook_is_followed_and_its_code_counts(toy) -> None:
    def digest_with(body: str) -> str:
        names: dict[str, Any] = {"__name__": "__main__", "run": stage_of("toy.alone", "run")}
        exec(f"def own(out):\n    return {body}\n", names)
        stage = eval("lambda out: own(out)", names)
        assert modules_of(stage, toy) == ["toy", "toy.alone"]
        return code_digest(stage, toy)

    assert digest_with("run(out)") == digest_with("run(out)  # the same")
    assert (
        len({digest_with(body) for body in ("run(out)", "run(out, 1)", "run(out) + 1", "run(out) - 1")}) == 4
    )


def test_the_digest_is_the_same_in_another_folder_and_process(toy, tmp_path) -> None:
    command = (
        "import sys; from pathlib import Path; from helpers.run.code_identity import Sources, code_digest\n"
        "exec(open(sys.argv[1]).read())\n"
        "print(code_digest(run, Sources.read(Path(sys.argv[2]))))"
    )
    (tmp_path / "stage.py").write_text(
        'run = lambda out: out in {"a", "b", "c"} and out in ("toy.top", 1.5)\n'
    )
    (tmp_path / "elsewhere").mkdir()
    os.rename(tmp_path / "toy", tmp_path / "elsewhere" / "toy")
    digests = {
        subprocess.run(
            [sys.executable, "-c", command, str(tmp_path / "stage.py"), str(tmp_path / "elsewhere" / "toy")],
            cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(digests) == 1


# --- the stages of the tracks --------------------------------------------------------------------


def track_stages() -> dict[str, FunctionType]:
    """Map every stage of the tracks to its lambda, which sees only its module's names."""
    stages = {}
    for track in (a, b, c):
        names = dict(vars(track))
        for call in (
            node
            for node in ast.walk(ast.parse(Path(track.__file__).read_text()))
            if isinstance(node, ast.Call)
        ):
            told = [a.value for a in call.args if isinstance(a, ast.Constant) and "/" in str(a.value)]
            builds = [a for a in call.args if isinstance(a, ast.Lambda)]
            if told and builds:
                stages[told[0]] = eval(compile(ast.Expression(builds[0]), track.__file__, "eval"), names)
    scored = eval("lambda: score_responses([], by_task([]))", dict(vars(b)))  # as in `TrackB._scored`
    return stages | {"track_b/scored_before": scored, "track_b/scored_after": scored}


class Recorder:
    """A session that builds nothing and records what it was asked to build."""

    def __init__(self, folder: Path):
        self.folder, self.seed, self.runtime = folder, 1, None
        twin = TwinSettings("somebody/another-model")
        self.profile = dataclasses.replace(
            LAPTOP,  # which leaves no stage out
            track_a=dataclasses.replace(LAPTOP.track_a, twin=twin),
            track_b=dataclasses.replace(LAPTOP.track_b, general_problems=3),
        )
        self.guards = Guards(folder)
        self.asked: dict[str, Callable[..., Any]] = {}

    def history(self, stage: str) -> dict[str, Any]:
        return {"seeds": [1, 2]}

    def stage(self, name: str, inputs: Any, build: Callable[..., Any]) -> Path:
        self.asked[name] = build
        (self.folder / "rows.jsonl").write_text("")
        return self.folder

    def rows(self, name: str, inputs: Any, compute: Callable[..., Any], record: Any) -> list[Any]:
        self.asked[name] = compute
        return [None]


@pytest.fixture(scope="module")
def stages(tmp_path_factory) -> dict[str, Callable[..., Any]]:
    run = Recorder(tmp_path_factory.mktemp("run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(controls_c, "shuffled_pairs", lambda data, seed: data)
        corpus = SimpleNamespace(spec="", version="", sha256="")
        controls_a.seen_before(run, corpus)
        controls_a.measure_foreign_corpus(run, {}, [], None, exclude="")
        controls_a.measure_clean_twin(run, corpus, {}, [])
        patch.setattr(controls_b, "general_problems", lambda n, seed: [])
        patch.setattr(run, "rows", lambda *a, rows=run.rows: rows(*a, dict) and [])
        controls_b.measure_general_problems(run, run.folder)
        data = SimpleNamespace(test=[], documents=[])
        controls_c.measure_controls(run, data, {}, None, run.folder, exclude="")
    return track_stages() | run.asked


EXPECTED = {  # stage -> a module it depends on
    "track_a/before": "helpers.eval.perplexity",
    "track_a/before_float32": "helpers.eval.perplexity",
    "track_a/train": "helpers.train.trainer",
    "track_a/after": "helpers.eval.perplexity",
    "track_a/foreign": "helpers.train.trainer",
    "track_a/twin": "helpers.train.trainer",
    "track_a/exposure": "helpers.data.older_release",
    "track_b/data": "helpers.data.tasks.test_sets",
    "track_b/rehearsal": "helpers.models.generation",
    "track_b/answers_before": "helpers.models.generation",
    "track_b/answers_after": "helpers.models.generation",
    "track_b/references": "helpers.sandbox.zygote",
    "track_b/scored_before": "helpers.sandbox.zygote",
    "track_b/scored_after": "helpers.sandbox.zygote",
    "track_b/train": "helpers.train.trainer",
    "track_b/problems_before": "helpers.models.generation",
    "track_b/problems_after": "helpers.sandbox.zygote",
    "track_c/index_before": "helpers.models.embedder",
    "track_c/index_after": "helpers.models.embedder",
    "track_c/train": "helpers.train.hard_negatives",
    "track_c/functions": "helpers.tools.search",
    "track_c/hybrid": "helpers.eval.lexical",
    "track_c/control_seed_1": "helpers.train.averaged_embedder",
    "track_c/control_seed_2": "helpers.train.averaged_embedder",
    "track_c/control_shuffled_pairs": "helpers.train.contrastive",
    "track_c/control_foreign_package": "helpers.data.foreign",
}


def test_every_stage_depends_on_what_it_must(stages) -> None:
    assert set(stages) == set(EXPECTED)
    for name, build in stages.items():
        found = modules_of(build)
        assert {EXPECTED[name], "helpers"} <= set(found), name
        assert not {"helpers.settings", "helpers.tracks.session"} & set(found), name
        assert len(found) < 0.5 * len(OURS.texts), name


@pytest.mark.parametrize(
    ("mended", "kept"),
    [
        ("helpers.data.tasks.test_sets", ["track_a/train", "track_b/train", "track_b/answers_before"]),
        ("helpers.eval.response_scoring", ["track_a/train", "track_b/train", "track_b/answers_after"]),
        ("helpers.train.instruct", ["track_a/train", "track_a/foreign", "track_b/data", "track_b/rehearsal"]),
        ("helpers.train.contrastive", ["track_a/train", "track_b/train", "track_c/index_before"]),
        ("helpers.tracks.controls_c", ["track_a/foreign", "track_c/train", "track_c/hybrid"]),
        ("helpers.plan", list(EXPECTED)),
        ("helpers.tracks.record", list(EXPECTED)),
        ("helpers.tracks.a", list(EXPECTED)),
    ],
)
def test_a_changed_module_keeps_the_stages_that_do_not_use_it(stages, mended, kept) -> None:
    other = dataclasses.replace(OURS, texts={**OURS.texts, mended: OURS.texts[mended] + "\nMENDED = 1\n"})
    for name in kept:
        assert code_digest(stages[name], other) == code_digest(stages[name]), name


@pytest.mark.parametrize("name", ["track_a/train", "track_b/train", "track_a/foreign"])
def test_a_changed_trainer_trains_again(stages, name) -> None:
    mended = "helpers.train.trainer"
    other = dataclasses.replace(OURS, texts={**OURS.texts, mended: OURS.texts[mended] + "\nMENDED = 1\n"})
    assert code_digest(stages[name], other) != code_digest(stages[name])


def test_a_function_wrapped_by_rows_is_followed() -> None:
    from helpers.train.averaged_embedder import mean_of

    asked = []
    run = SimpleNamespace(stage=lambda name, inputs, build: asked.append(build) or Path("/nowhere"))
    with pytest.raises(FileNotFoundError):
        Session.rows(run, "x", 1, lambda: mean_of([]))
    (build,) = asked
    assert "helpers.train.averaged_embedder" in modules_of(build)
    assert "helpers.report.export" not in modules_of(build)
