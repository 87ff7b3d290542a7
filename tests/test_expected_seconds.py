"""Every step of the notebook has a readable name and expected seconds, which are scaled to this machine."""

from __future__ import annotations

import ast
import dataclasses
import os
import re
from pathlib import Path

import nbformat
import pytest

from helpers.profiles import PROFILES, RunRequest, resolve_profile
from helpers.run.calibration import estimate_here, measured_pace, scaled
from helpers.run.earlier_runs import kept_stages, recorded_seconds
from helpers.run.expected_seconds import (
    EXPECTED,
    PYTHON_STAGES,
    Pace,
    SectionSeconds,
    expected_sections,
    minutes_expected,
)
from helpers.run.stage_names import STAGE_NAMES, is_control, stage_kind, stage_name
from helpers.run.time_left import TimeLeft
from helpers.run.workspace import read_json, write_json

ROOT = Path(__file__).parents[1]
NOTEBOOK = nbformat.read(ROOT / "ML_Assignment_Part2.ipynb", as_version=4)
STAGE = re.compile(r"track_[abc]/\w+")


def constants(source: str) -> set[str]:
    """Return step names among module constants and the arguments of `stage`, `rows` and `json`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            if called in ("stage", "rows", "json", "_scored"):
                found |= {
                    a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                }
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            found |= {str(node.value.value)} if ast.unparse(node.targets[0]).endswith("STAGE") else set()
    return {name for name in found if STAGE.fullmatch(name)}


def stages() -> set[str]:
    """Return all steps that the tracks can run, with seeds as kinds."""
    sources = [file.read_text() for file in (ROOT / "helpers" / "tracks").glob("*.py")]
    found = set().union(*(constants(source) for source in sources))
    controls = ast.parse((ROOT / "helpers/tracks/controls_c.py").read_text())
    for node in ast.walk(controls):  # named track_c/control_<name> there
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "stage":
            name = ast.unparse(node.args[0])
            found.add(
                "track_c/control_seed_*" if "seed" in name else f"track_c/control_{ast.literal_eval(name)}"
            )
    return found


def test_the_steps_were_found() -> None:
    assert len(stages()) >= 19
    assert {"track_a/foreign", "track_b/data", "track_c/control_seed_*"} <= stages()


def test_every_step_has_a_name_for_people() -> None:
    assert stages() == set(STAGE_NAMES)
    assert stage_name("track_c/control_seed_18") == "control: a single training, seed 18"
    assert is_control("track_a/foreign")
    assert not is_control("track_a/train")
    assert stage_name("unknown") == "unknown"


@pytest.mark.parametrize("profile", PROFILES)
def test_every_step_and_section_has_expected_seconds(profile) -> None:
    sections = EXPECTED[profile].sections
    assert {stage for section in sections for stage in section.stages} == stages()
    assert all(seconds > 0 for section in sections for seconds in section.stages.values())
    prose = "\n".join(cell.source for cell in NOTEBOOK.cells if cell.cell_type == "markdown")
    assert [s.heading for s in sections] == re.findall(r"^## (.+)$", prose, re.MULTILINE)


def test_steps_that_the_profile_leaves_out_are_not_expected() -> None:
    def names(profile) -> set[str]:
        return {stage for section in expected_sections(profile) for stage in section.stages}

    cpu = names(resolve_profile(RunRequest("cpu")))
    assert {f"track_c/control_seed_{seed}" for seed in (17, 18, 19)} <= cpu
    assert not any(is_control(stage) for stage in names(resolve_profile(RunRequest("smoke"))))
    for value in (True, False):
        changed = RunRequest("laptop", changed_settings=f"track_a.controls={value}".lower())
        assert ("track_a/foreign" in names(resolve_profile(changed))) == value


def test_the_cpu_profile_expects_the_time_of_its_committed_run() -> None:
    metrics = read_json(ROOT / "metrics.json")
    if metrics["run"]["profile"] == "cpu":
        assert minutes_expected(PROFILES["cpu"]) == pytest.approx(metrics["run"]["seconds"] / 60, rel=0.4)


SECTIONS = (
    SectionSeconds("One", 10.0, {"track_b/data": 100.0, "track_a/train": 200.0}),
    SectionSeconds("Two", 20.0, {"track_c/control_seed_18": 40.0}),
)


def test_a_faster_machine_takes_less() -> None:
    measured, here = Pace(training=100.0, python=1000.0), Pace(training=200.0, python=4000.0)
    one, two = scaled(SECTIONS, pace=measured, recorded={}, here=here)
    assert one == SectionSeconds("One", 2.5, {"track_b/data": 25.0, "track_a/train": 100.0})
    assert two == SectionSeconds("Two", 5.0, {"track_c/control_seed_18": 20.0})


def test_recorded_seconds_are_used_and_scale_the_rest() -> None:
    """Recorded Python steps scale the time outside steps; without records, the pace does."""
    recorded = {"track_a/train": 500.0}
    one, two = scaled(SECTIONS, pace=Pace(1.0, 1.0), recorded=recorded, here=Pace(9.0, 0.5))
    assert one == SectionSeconds("One", 20.0, {"track_b/data": 200.0, "track_a/train": 500.0})
    assert two == SectionSeconds("Two", 40.0, {"track_c/control_seed_18": 100.0})
    one, two = scaled(SECTIONS, pace=None, recorded={"track_b/data": 50.0}, here=None)
    assert one == SectionSeconds("One", 5.0, {"track_b/data": 50.0, "track_a/train": 200.0})


def test_a_few_recorded_seconds_do_not_scale_the_rest() -> None:
    one, _ = scaled(SECTIONS, pace=None, recorded={"track_c/control_seed_*": 90.0}, here=None)
    assert one.stages["track_a/train"] == 200.0 * 90.0 / 40.0
    tiny = (*SECTIONS, SectionSeconds("Three", 0.0, {"track_a/foreign": 5000.0}))
    one, _, _ = scaled(tiny, pace=None, recorded={"track_c/control_seed_*": 90.0}, here=None)
    assert one.stages["track_a/train"] == 200.0


def test_the_pace_of_this_machine_is_measured() -> None:
    pace = measured_pace()
    assert pace.training > 0
    assert pace.python > 0


def run_in(runs: Path, name: str, profile, **seconds: float) -> Path:
    write_json(runs / name / "run.json", {"fingerprint": profile.fingerprint(), "profile": profile})
    for stage, took in seconds.items():
        write_json(runs / name / stage.replace("__", "/") / "stage.json", {"seconds": took})
    return runs / name


def test_seconds_come_from_runs_with_the_same_settings_and_any_seed(tmp_path) -> None:
    profile = resolve_profile(RunRequest("smoke"))
    run_in(tmp_path, "1", profile, track_a__train=10.0, track_b__train=7.0)
    run_in(tmp_path, "2", resolve_profile(RunRequest("smoke", seed=3)), track_a__train=20.0)
    run_in(
        tmp_path,
        "3",
        resolve_profile(RunRequest("smoke", changed_settings="track_a.epochs=9")),
        track_a__train=99.0,
    )
    run_in(tmp_path, "4", profile, **{"track_a__train.partial": 30.0})
    (tmp_path / "stray").mkdir()
    now = run_in(tmp_path, "5", profile)
    found = recorded_seconds(now, profile, ["track_a/train", "track_b/train", "track_c/train"])
    assert found == {"track_a/train": 20.0, "track_b/train": 7.0}


def test_finished_steps_are_kept_unless_settings_seed_or_code_differ(tmp_path) -> None:
    profile = resolve_profile(RunRequest("smoke"))
    run_in(tmp_path, "beside", profile, track_b__train=7.0)
    run_in(
        tmp_path,
        "changed",
        resolve_profile(RunRequest("smoke", changed_settings="track_c.epochs=9")),
        track_c__train=9.0,
    )
    run_in(tmp_path, "seed", resolve_profile(RunRequest("smoke", seed=3)), track_c__train=9.0)
    now = run_in(tmp_path, "now", profile, track_a__train=10.0, track_a__after=1.0)
    os.utime(now / "track_a/after/stage.json", (0, 0))  # older than the code
    asked = ["track_a/train", "track_a/after", "track_b/train", "track_c/train"]
    assert kept_stages(now, profile, asked, resume=True) == {"track_a/train", "track_b/train"}
    assert kept_stages(now, profile, asked, resume=False) == {"track_a/train"}


def test_the_estimate_of_a_resumed_run_leaves_out_kept_steps(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("helpers.run.calibration.measured_pace", lambda: EXPECTED["smoke"].pace)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    profile = resolve_profile(RunRequest("smoke"))
    fresh, why = estimate_here(profile, run_in(tmp_path / "a", "now", profile), resume=True)
    assert fresh.left(0.0) == pytest.approx(sum(s.seconds for s in expected_sections(profile)))
    assert why == "on this machine"
    seconds = {stage: took for s in expected_sections(profile) for stage, took in s.stages.items()}
    before = run_in(tmp_path / "b", "now", profile, track_b__data=2 * seconds["track_b/data"])
    resumed, why = estimate_here(profile, before, resume=True)
    assert isinstance(resumed, TimeLeft)
    assert why == f"as earlier runs here took, 1 of {len(seconds)} steps are kept from before"
    python = sum(section.outside_stages for section in expected_sections(profile))
    python += sum(seconds[stage] for stage in PYTHON_STAGES & seconds.keys() - {"track_b/data"})
    training = sum(seconds[stage] for stage in seconds.keys() - PYTHON_STAGES)
    assert resumed.left(0.0) == pytest.approx(training + 2 * python)


def test_changed_settings_keep_the_profiles_expected_time() -> None:
    profile = dataclasses.replace(PROFILES["cpu"], seed=5)
    assert minutes_expected(profile) == minutes_expected(PROFILES["cpu"])
    assert stage_kind("track_c/control_seed_5") == "track_c/control_seed_*"
