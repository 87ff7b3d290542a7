"""Grade one submission: source, whole runs in the sandbox, fresh inputs, and time against the slow script."""

from __future__ import annotations

import contextlib
import io
import math
import os
import secrets
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np

from helpers.profiling_lab.grade_types import Check, Grade, Status
from helpers.profiling_lab.pair_timing import FEWEST, MOST, Ratio, time_pairs
from helpers.profiling_lab.problem import Arrays, Problem, load_problem
from helpers.profiling_lab.profile_artefact import check_profile, read_profile
from helpers.profiling_lab.result_files import (
    BadOutput,
    equal_results,
    read_figure,
    read_result,
    stray_files,
)
from helpers.profiling_lab.script_runner import RunnerError, ScriptRun, ScriptRunner, script_runner
from helpers.profiling_lab.source_checks import MOST_BYTES, check_source

# The status that a failed check gives a submission.
STATUS: dict[str, Status] = {
    "readable": "unreadable", "components": "refused", "imports": "refused", "no_patching": "refused",
    "plain_code": "refused", "no_stored_results": "refused", "runs": "crashed", "time_limit": "timeout",
    "one_process": "refused", "profile": "bad_output", "outputs": "bad_output", "shapes": "bad_output",
    "figures": "bad_output", "components_used": "refused", "component_values": "wrong_result",
    "whole_training": "refused", "same_seed": "wrong_result", "other_seed": "wrong_result",
    "fresh_inputs": "wrong_result", "speed": "too_slow",
}  # fmt: skip
SEEDS = 2**31 - 1
FIGURE_SLACK = 1e-3  # between a figure that a script reports and the grader's own, plus one held-out example
CASE_ROWS = 30  # examples that components are called on
SURELY = 3.0  # times the tolerance: a result so far off is not worth timing


class _Failed(Exception):
    """A check failed; nothing after it is made."""


def grade(
    problem: str,
    submission: Path,
    *,
    problems: Path | None = None,
    core: int | None = None,
    most_pairs: int = MOST,
    entropy: int | None = None,
    runner: ScriptRunner | None = None,
) -> Grade:
    """Grade the script at `submission` against the slow script of `problem`.

    Args:
        problem: name of a folder below `problems`.
        submission: a Python file.
        problems: folder of the problems; by default `labs/problems` of this suite.
        core: processor core for all runs; by default the last that this process may use.
        most_pairs: pairs of runs after which an undecided speed-up counts as not shown.
        entropy: fixes the task and the seeds, for tests; by default the system draws it.
        runner: a warm process for this problem, from `script_runner`; by default one is started.

    Returns:
        The grade. Whatever the submission does ends in a failed check with its evidence, never in an
        exception.

    Raises:
        ProblemError: if there is no such problem or its folder is damaged.
    """
    rules = load_problem(problem, problems)
    entropy = secrets.randbits(64) if entropy is None else entropy
    checks: list[Check] = []
    grading: _Grading | None = None
    broken = False
    with contextlib.suppress(_Failed):
        source = _read_source(submission, checks)
        for check in check_source(source, rules):
            _add(checks, check)
        try:
            started = script_runner(rules.preload, rules.memory_mb, core)
            with contextlib.nullcontext(runner) if runner else started as warm:
                grading = _Grading(rules, source, warm, checks, entropy)
                grading.grade_runs(most_pairs)
        except RunnerError as error:
            broken = True
            checks.append(Check("sandbox", False, f"{error}; this says nothing about the submission"))
    failed = next((check for check in checks if not check.passed), None)
    status: Status = "passed" if failed is None else STATUS.get(failed.name, "infrastructure_error")
    ratio = None if grading is None or broken else grading.ratio
    speedup, interval = (ratio.value, ratio.interval) if ratio else (None, None)
    return Grade(problem, status, status == "passed", speedup, interval, tuple(checks))


def _add(checks: list[Check], check: Check) -> None:
    checks.append(check)
    if not check.passed:
        raise _Failed


def _read_source(path: Path, checks: list[Check]) -> str:
    """Return the text of a submission; a path that cannot be read is a failed check."""
    problem, text = "", ""
    try:
        if not path.is_file():
            problem = f"there is no file {path.name}" if not path.exists() else f"{path.name} is no file"
        elif path.stat().st_size > MOST_BYTES:
            problem = f"the file has {path.stat().st_size:,} bytes, at most {MOST_BYTES:,} are read"
        else:
            text = path.read_bytes().decode("utf-8")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a path with a null byte
        problem = f"the file cannot be read: {error}"
    if problem:
        _add(checks, Check("readable", False, problem))
    return text


@dataclass
class _Grading:
    """The part of one grading that needs runs."""

    rules: Problem
    source: str
    runner: ScriptRunner
    checks: list[Check]
    entropy: int
    results: list[dict[str, np.ndarray]] = field(default_factory=list)
    slow_results: list[dict[str, np.ndarray]] = field(default_factory=list)
    walls: list[str] = field(default_factory=list)
    ratio: Ratio | None = None

    def __post_init__(self) -> None:
        draw = np.random.default_rng(self.entropy)
        self.task_seed = int(draw.integers(SEEDS))
        self.seeds = [int(seed) for seed in draw.integers(SEEDS, size=max(MOST, 100))]
        self.profile_rows = int(draw.integers(*self.rules.profile_rows, endpoint=True))
        self.data = self.rules.task.draw(self.task_seed, self.rules.rows, int(draw.integers(SEEDS)))
        self.small = self.rules.task.draw(self.task_seed, self.profile_rows, int(draw.integers(SEEDS)))
        self.slow_source = self.rules.baseline.read_text(encoding="utf-8")

    def check(self, name: str, problem: str, fine: str) -> None:
        """Add a check; a problem ends the grading."""
        _add(self.checks, Check(name, not problem, problem or fine))

    def grade_runs(self, most_pairs: int) -> None:
        """Make every check that needs a run, in the order of what they cost."""
        self._check_profile()
        self._check_components()
        seed = self.seeds[0]
        watched = self._run(self.source, seed, watched=True)
        self._check_ended(watched)
        first = self._check_result(watched, seed)
        self._check_watched(watched, first, seed)
        self._check_seeds(first)
        self._check_not_far_off()
        self.ratio = time_pairs(self._run_pair, self.rules.bar, most_pairs)
        self._check_timed_work()
        self._check_fresh_inputs()
        self._check_speed(self.ratio)

    def _run(self, script: str, seed: int, *, watched: bool = False, profiled: bool = False) -> ScriptRun:
        data = self.small if profiled else self.data
        slow = self.slow_source if profiled else ""
        witness = self.rules.witness if watched else ""
        return self.runner.run(
            script, data, seed, self.rules.timeout_s, watched=watched, witness=witness, slow=slow
        )

    def _check_ended(self, run: ScriptRun) -> None:
        """Check how a run ended, that it stayed one process, and where it wrote."""
        events = run.notes.get("events") or []
        self._unless("one_process", f"the script used {', '.join(map(str, events))}" if events else "")
        if strays := stray_files(run):
            self._unless("outputs", f"written outside the run's own folder: {', '.join(strays[:5])}")
        if run.limit == "time":
            self._unless("time_limit", run.error)
        last = run.said.strip().splitlines()[-1:]  # a traceback's other lines name this machine's folders
        said = f"; it said: {last[0][-300:]}" if run.error and last else ""
        self._unless("runs", f"{run.error}{said}" if run.error else "")

    def _unless(self, name: str, problem: str) -> None:
        """Add a check only if it fails: several runs make it, and it is recorded once at the end."""
        if problem:
            _add(self.checks, Check(name, False, problem))

    def _check_profile(self) -> None:
        """Let the submission profile the slow script on a few examples, and compare with our own profile."""
        seed = self.seeds[-1]
        run = self._run(self.source, seed, profiled=True)
        self._check_ended(run)
        error, profile = read_profile(run, self.runner.read_pstats)
        own_run = self._run(self.slow_source, seed, profiled=True)
        own_error, own = read_profile(own_run, self.runner.read_pstats)
        if own is None or own_run.error:
            raise RunnerError(f"the slow script could not be profiled: {own_run.error or own_error}")
        if profile is None:
            self.check("profile", error, "")
            return
        fine, evidence = check_profile(profile, own, self.slow_source)
        self.check("profile", "" if fine else evidence, evidence)

    def _check_components(self) -> None:
        """Import the submission and call its plain functions on fresh examples."""
        fresh = self.rules.task.draw(self.task_seed, CASE_ROWS, secrets.randbits(31))
        cases = self.rules.task.component_cases(fresh)
        given = {name: arguments for name, (arguments, _) in cases.items()}
        error, values = self.runner.call(self.source, given, self.rules.timeout_s)
        problem = f"importing the file and calling its functions failed: {error}" if error else ""
        for name, (_, expected) in cases.items() if not error else ():
            value = values[name]
            if value.shape != expected.shape:
                problem = f"`{name}` returned shape {value.shape}, expected {expected.shape}"
            elif not np.allclose(value, expected, rtol=1e-3, atol=1e-4):
                problem = (
                    f"`{name}` differs by up to {np.abs(value - expected).max():.3g} from its definition"
                )
            if problem:
                break
        told = ", ".join(f"`{name}`" for name in cases) or "no plain function to call"
        self.check("component_values", problem, f"on fresh examples as defined: {told}")

    def _check_result(self, run: ScriptRun, seed: int) -> dict[str, np.ndarray]:
        """Read a run's result and check its files, shapes, split, figure, and what it proves of the work."""
        task = self.rules.task
        try:
            result = read_result(run)
        except BadOutput as error:
            self._unless("outputs", str(error))
            raise AssertionError from error
        self._unless("shapes", _guarded(lambda: task.check_shapes(result, self.data, seed)))
        try:
            reported = read_figure(run, self.rules.figure)
        except BadOutput as error:
            self._unless("figures", str(error))
            raise AssertionError from error
        held_out = task.test_examples(result, self.data, seed)
        own = self._quality(result, held_out)
        slack = FIGURE_SLACK + 1 / len(next(iter(held_out.values())))
        if not abs(reported - own) <= slack:
            self._unless("figures", f"reported {self.rules.figure} {reported:.4f}, recomputed {own:.4f}")
        self._unless("whole_training", _guarded(lambda: task.check_work(result, self.data, seed, None)))
        return result

    def _check_watched(self, run: ScriptRun, result: Arrays, seed: int) -> None:
        """Check what the watched run showed, then record the checks that every run must pass."""
        notes = run.notes
        self._unless("no_patching", _listed("the run replaced", notes.get("patched") or []))
        calls = notes.get("calls") or {}
        for component in self.rules.components:
            names = [component.name] if component.kind == "function" else [
                f"{component.name}.{method}" for method in component.methods
            ]  # fmt: skip
            unused = [name for name in names if not calls.get(name)]
            self._unless("components_used", _listed("never called while training:", unused))
        self._unless("whole_training", self._work_seen(run, result, seed))
        for name, fine in (
            ("runs", "the runs ended well, within their limits"),
            ("one_process", "one process, no connection, no hook into the interpreter"),
            ("outputs", "all outputs in the run's own folder, as plain arrays"),
            ("shapes", "shapes and split sizes as the card says"),
            ("figures", f"the reported {self.rules.figure} is what the saved result gives"),
            ("components_used", "every required component was called while training"),
            ("whole_training", "every training example was used as often as required"),
        ):
            self.check(name, "", fine)

    def _check_seeds(self, first: Arrays) -> None:
        """Check that equal seeds give equal results, and another seed another one."""
        again = self._result(self.source, self.seeds[0])
        differs = equal_results(first, again)
        problem = f"two runs with seed {self.seeds[0]} differ in `{differs}`" if differs else ""
        self.check("same_seed", problem, "two runs with one seed agree in every bit")
        other = self._result(self.source, self.seeds[1])
        same = "" if equal_results(first, other) else "two seeds gave the same result, bit by bit"
        self.check("other_seed", same, "another seed gives another result")
        self.results += [again, other]

    def _result(self, script: str, seed: int) -> dict[str, np.ndarray]:
        run = self._run(script, seed)
        self._check_ended(run)
        return self._check_result(run, seed)

    def _slow_run(self, seed: int) -> ScriptRun:
        run = self._run(self.slow_source, seed)
        if run.error:
            raise RunnerError(f"the slow script failed: {run.error}; {run.said.strip()[-300:]}")
        return run

    def _check_not_far_off(self) -> None:
        """Spare the timing of a submission whose result is far from the slow script's; this warms up, too."""
        self.slow_results.append(read_result(self._slow_run(self.seeds[0])))
        problem, _ = self._compare(SURELY * self.rules.tolerance)
        self._unless("fresh_inputs", problem)
        self.results.clear()
        self.slow_results.clear()

    def _run_pair(self, number: int) -> tuple[float, float]:
        """Run both scripts with the same seed, in an order that alternates; return their seconds."""
        seed = self.seeds[number]
        order: list[Callable[[], ScriptRun]] = [
            lambda: self._slow_run(seed), lambda: self._run(self.source, seed)
        ]  # fmt: skip
        runs = [make() for make in (order if number % 2 == 0 else order[::-1])]
        slow, fast = runs if number % 2 == 0 else runs[::-1]
        self._check_ended(fast)
        self.results.append(self._check_result(fast, seed))
        self.slow_results.append(read_result(slow))
        self.walls.append(f"{slow.wall_s:.2f}/{fast.wall_s:.2f}")
        return slow.cpu_s, fast.cpu_s

    def _check_timed_work(self) -> None:
        """Watch the runs of timed pairs once more: with the same seed, each must give the same result.

        A script that does its work only with some seeds, or as long as it is watched, is found here.
        """
        numbers = range(len(self.results))
        for number in secrets.SystemRandom().sample(numbers, min(FEWEST, len(numbers))):
            seed, timed = self.seeds[number], self.results[number]
            run = self._run(self.source, seed, watched=True)
            self._check_ended(run)
            again = self._check_result(run, seed)
            differs = equal_results(timed, again)
            told = f"watched once more, the run of pair {number + 1} gave another `{differs}` than when timed"
            self._unless("same_seed", told if differs else "")
            work = self._work_seen(run, again, seed)
            self._unless("whole_training", f"in pair {number + 1}: {work}" if work else "")

    def _work_seen(self, run: ScriptRun, result: Arrays, seed: int) -> str:
        """Return what a watched run shows to be missing of the training; "" if nothing is."""
        seen = _seen(str(run.notes.get("seen") or ""))
        if self.rules.witness and seen is None:
            return f"no forward pass of `{self.rules.witness}` was trained on"
        return _guarded(lambda: self.rules.task.check_work(result, self.data, seed, seen))

    def _check_fresh_inputs(self) -> None:
        problem, fine = self._compare(self.rules.tolerance)
        self.check("fresh_inputs", problem, fine)

    def _compare(self, tolerance: float) -> tuple[str, str]:
        """Score both scripts' results on examples drawn now; return what is wrong, and the figures."""
        fresh = self.rules.task.draw(self.task_seed, self.rules.fresh_rows, self._late_seed())
        fast, slow = (
            fmean(self._quality(result, fresh) for result in results)
            for results in (self.results, self.slow_results)
        )
        worse = fast - slow if self.rules.lower_is_better else slow - fast
        told = (
            f"{self.rules.figure} on {self.rules.fresh_rows:,} examples drawn after training: {fast:.4f}, "
            f"slow script {slow:.4f} ({len(self.results)} and {len(self.slow_results)} runs)"
        )
        fine = math.isfinite(worse) and worse <= tolerance
        return ("" if fine else f"{told}; allowed is {self.rules.tolerance:g} worse"), told

    def _late_seed(self) -> int:
        """Return a seed that did not exist while the submission ran."""
        return int.from_bytes(os.urandom(4), "little") >> 1

    def _quality(self, result: Arrays, examples: Arrays) -> float:
        with np.errstate(all="ignore"):
            return float(self.rules.task.quality(result, examples))

    def _check_speed(self, ratio: Ratio) -> None:
        low, high = ratio.interval
        seconds = ", ".join(f"{slow:.2f}/{fast:.2f}" for slow, fast in ratio.pairs[:5])
        told = (
            f"{ratio.value:.2f} times as fast, interval {low:.2f} to {high:.2f}, {len(ratio.pairs)} pairs; "
            f"the first ones took {seconds} processor seconds and {', '.join(self.walls[:5])} wall seconds"
        )
        slow = "" if low >= self.rules.bar else f"{told}; the lower bound must reach {self.rules.bar:g}"
        self.check("speed", slow, told)


def _guarded(check: Callable[[], str]) -> str:
    """Make one of the task's checks; arrays that it cannot even compute with fail it."""
    try:
        with np.errstate(all="ignore"):
            return check()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, ArithmeticError) as error:
        return f"the saved arrays cannot be checked ({type(error).__name__}: {error})"


def _listed(what: str, names: list[str]) -> str:
    return f"{what} {', '.join(map(str, names[:5]))}" if names else ""


def _seen(text: str) -> dict[str, np.ndarray] | None:
    """Return the record of a watched run's forward passes; None if there is none."""
    try:
        with np.load(io.BytesIO(b64decode(text)), allow_pickle=False) as loaded:
            return dict(loaded)
    except (ValueError, OSError, EOFError):
        return None
