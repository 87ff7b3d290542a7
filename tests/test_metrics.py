"""metrics.json: figures computed from rows, verdicts that follow from figures, refused contradictions."""

import copy
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from helpers.eval.statistics import Delta, Estimate, exact_mcnemar, wilson_interval
from helpers.records import Failure, ResponseScore, Task
from helpers.report.entries import metric_entry, tidy, track_section
from helpers.report.metrics import (
    MetricsError,
    assemble,
    not_run,
    recompute,
    record_track_a,
    record_track_b,
    record_track_c,
    run_section,
    timeless,
    track_c_rows,
    validate,
    write_items,
)
from helpers.report.own_metric import add_metric
from helpers.report.tables import (
    baseline_table,
    control_table,
    cost_table,
    markdown,
    metric_table,
    number,
    p_text,
    print_summary,
    summary_rows,
    summary_table,
    verdict_sentence,
)
from helpers.run.workspace import WorkspaceError, read_json, write_json

SCHEMA = Path(__file__).parents[1] / "helpers/report/metrics.schema.json"
SEED, SAMPLES = 17, 500
COST = {"seconds": 12.5, "tokens_per_second": 2000.0, "peak_memory_gib": 1.5}


def files(n=30, gain=0.2, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(n):
        size = int(rng.integers(500, 9000))
        before = size * 1.0 * math.log(2) * rng.normal(1.1, 0.05)
        rows.append(
            {
                "path": f"pkg/m{index:02d}.py",
                "n_bytes": size,
                "n_tokens": size // 3,
                "nll_before": before,
                "nll_after": before * (1 - gain) * rng.normal(1.0, 0.02),
                "hits_before": size // 9,
                "hits_after": size // 7,
            }
        )
    return rows


def task(index, kind="fix_bug", tests="assert True"):
    return Task(
        f"t{index:03d}", kind, f"pkg/m.py::f{index // 2}", "pkg/m.py", "do it", "ref", "f", "", tests, 3
    )


def scored(some_task, sample, passed, status=None, **fields):
    values = {"style": 0.9, "style_findings": (), "invented_names": ()} | fields
    return ResponseScore(
        task_id=some_task.id,
        kind=some_task.kind,
        function_id=some_task.function_id,
        sample=sample,
        response="```python\npass\n```",
        status=status or ("passed" if passed else "failed"),
        passed=passed,
        **values,
    )


def responses(tasks, rate, seed, n=5):
    rng = np.random.default_rng(seed)
    return [scored(t, sample, bool(rng.random() < rate)) for t in tasks for sample in range(n + 1)]


def queries(n=60, seed=0):
    rng = np.random.default_rng(seed)
    rows, before, after, bm25 = [], {}, {}, {}
    for index in range(n):
        query = f"q{index:03d}"
        ranks = [int(r) for r in (rng.integers(1, 40), rng.integers(1, 8), rng.integers(1, 60))]
        for scores, rank in zip((before, after, bm25), ranks, strict=True):
            hit = rank <= 10
            scores[query] = {
                "mrr@10": 1 / rank if hit else 0.0,
                "ndcg@10": 1 / math.log2(rank + 1) if hit else 0.0,
                "recall@10": float(hit),
            }
        row = {"query_id": query, "text": f"text {index}", "kind": "how_to" if index % 2 else "paraphrase"}
        rows.append(row | {"rank_before": ranks[0], "rank_after": ranks[1], "name_overlap": 0.2})
    kinds = {"kind: how_to": [r["query_id"] for r in rows if r["kind"] == "how_to"]}
    return track_c_rows(rows, before, after, groups=kinds, baselines={"bm25": bm25})


RUN = run_section(
    profile="cpu",
    run_id="cpu-1",
    corpus={"spec": "installed:networkx", "version": "3.6.1", "files": 288, "sha256": "a" * 64},
    commit="abc",
    seed=SEED,
    hardware={"device": "cpu", "name": "some", "cores": 2, "precision": "float32"},
    versions={"python": "3.12.1"},
    started="2026-11-20T16:00:00+00:00",
    seconds=700.12345,
)
FAILURE = Failure("track_a", "grew worse", "pkg/m01.py", "input", "lower", "higher", "because")
TASKS = [task(i) for i in range(40)] + [task(i, kind="explain", tests="") for i in range(40, 46)]


def options():
    return {"model": "tiny", "seed": SEED, "samples": SAMPLES, "cost": COST}


@pytest.fixture(scope="module")
def rows():
    return {
        "track_a/files": files(),
        "track_a/role_docstring": files(gain=0.4, seed=2),
        "track_a/control_general_code": files(gain=-0.01, seed=4),
        "track_b/tasks": TASKS,
        "track_b/scores_before": responses(TASKS, 0.2, 1),
        "track_b/scores_after": responses(TASKS, 0.7, 2),
        "track_b/baseline_copy_input": [scored(t, 0, False) for t in TASKS],
        "track_c/queries": queries(),
        "track_c/control_shuffled": queries(seed=9),
    }


@pytest.fixture(scope="module")
def metrics(rows):
    a = record_track_a(
        rows["track_a/files"],
        role_rows={"docstring": rows["track_a/role_docstring"]},
        control_rows={"general_code": rows["track_a/control_general_code"]},
        baselines={"unigram": 4.5},
        data={"counts": {"train_tokens": 220_000}},
        **options(),
    )
    b = record_track_b(
        rows["track_b/scores_before"],
        rows["track_b/scores_after"],
        TASKS,
        temperature=0.6,
        baselines={"copy_input": rows["track_b/baseline_copy_input"]},
        **options(),
    )
    c = record_track_c(
        rows["track_c/queries"], control_rows={"shuffled": rows["track_c/control_shuffled"]}, **options()
    )
    return assemble(run=RUN, track_a=a, track_b=b, track_c=c, failures=[FAILURE])


# --- figures from rows ---------------------------------------------------------------------------


def test_track_a_by_hand():
    rows = [
        {"path": "a", "n_bytes": 100, "n_tokens": 20, "nll_before": 100 * math.log(2), "nll_after": 35.0},
        {"path": "b", "n_bytes": 300, "n_tokens": 80, "nll_before": 500 * math.log(2), "nll_after": 140.0},
    ]
    section = record_track_a(rows, **options())
    bits, perplexity = section["metrics"]["bits_per_byte"], section["metrics"]["perplexity"]
    assert bits["before"]["value"] == pytest.approx(600 / 400)
    assert bits["after"]["value"] == pytest.approx(175 / math.log(2) / 400)
    assert bits["delta"]["value"] == pytest.approx(bits["after"]["value"] - 1.5)
    assert perplexity["before"]["value"] == pytest.approx(2**6)
    assert bits["before"]["n"] == 2
    assert not bits["higher_is_better"]
    assert section["verdict"] == "no_detectable_difference"  # two files prove nothing
    assert section["data"]["counts"] == {"test_files": 2, "test_bytes": 400, "test_tokens": 100}
    assert "top1_accuracy" not in section["metrics"]


def test_track_a_controls_and_accuracy(metrics):
    track = metrics["track_a"]
    assert track["verdict"] == "improved"
    assert track["controls"]["general_code"]["delta"]["value"] > 0
    assert track["baselines"] == {"unigram": {"bits_per_byte": {"value": 4.5}}}
    assert track["metrics"]["perplexity/docstring"]["before"]["value"] > 1
    assert track["metrics"]["top1_accuracy"]["higher_is_better"]
    assert track["data"]["counts"]["train_tokens"] == 220_000


def test_track_b_by_hand():
    """Eight tasks: 1 kept, 6 gained, none lost, 1 never; two samples, of which none or both pass."""
    tasks = [task(i) for i in range(8)]
    passed_before = [True] + [False] * 7
    passed_after = [True] * 7 + [False]
    before = [scored(t, s, p) for t, p in zip(tasks, passed_before, strict=True) for s in (0, 1, 2)]
    after = [
        scored(t, s, p and s != 2, style=0.5, invented_names=("nx.x",) if s == 0 else ())
        for t, p in zip(tasks, passed_after, strict=True)
        for s in (0, 1, 2)
    ]
    section = record_track_b(before, after, tasks, ks=(1, 2, 3), temperature=0.6, **options())
    primary = section["metrics"]["pass@1"]
    assert (primary["before"]["value"], primary["after"]["value"]) == (1 / 8, 7 / 8)
    assert primary["before"]["ci95"] == pytest.approx(list(wilson_interval(1, 8)))
    assert primary["delta"]["p_value"] == exact_mcnemar(passed_before, passed_after).p_value == 0.03125
    assert "6 to 0 discordant" in primary["delta"]["test"]
    assert "4 groups" in primary["delta"]["test"]  # two tasks share a function
    assert section["verdict"] == "no_detectable_difference"  # p < .05, but four functions only
    assert section["metrics"]["pass@1_sampled"]["after"]["value"] == pytest.approx(7 / 8 / 2)
    assert section["metrics"]["pass@2"]["after"]["value"] == pytest.approx(7 / 8)  # 1 of 2 passed: certain
    assert "pass@3" not in section["metrics"]  # two samples cannot say
    assert "temperature 0.6" in section["metrics"]["pass@2"]["unit"]
    assert section["metrics"]["style"]["delta"]["value"] == pytest.approx(-0.4)
    invented = section["metrics"]["hallucination_rate"]
    assert (invented["before"]["value"], invented["after"]["value"]) == (0.0, 1.0)
    assert invented["before"]["ci95"][1] == pytest.approx(wilson_interval(0, 8)[1])  # zero has a bound
    assert not invented["higher_is_better"]
    assert section["data"]["counts"]["greedy_gained"] == 6


def test_infrastructure_errors_count_on_neither_side():
    tasks = [task(i) for i in range(20)]
    before, after = responses(tasks, 0.3, 1), responses(tasks, 0.8, 2)
    clean = record_track_b(
        [s for s in before if s.task_id != "t003"],
        [s for s in after if s.task_id != "t003"],
        [t for t in tasks if t.id != "t003"],
        **options(),
    )
    broken = [
        scored(tasks[3], s.sample, False, "infrastructure_error") if s.task_id == "t003" else s for s in after
    ]
    section = record_track_b(before, broken, tasks, **options())
    assert section["data"]["counts"]["infrastructure_errors"] == 6
    assert section["metrics"] == clean["metrics"]


def test_unreadable_responses_are_not_clean_ones():
    """A response that does not parse can name nothing false, which must not look like honesty."""
    tasks = [task(i) for i in range(10)]
    before = [scored(t, 0, False, "unparsable", style=None) for t in tasks[:5]]
    before += [scored(t, 0, False, invented_names=("x.y",)) for t in tasks[5:]]
    after = [scored(t, 0, True) for t in tasks]
    section = record_track_b(before, after, tasks, **options())
    assert section["metrics"]["hallucination_rate"]["before"] == {
        "value": 1.0, "n": 5, "ci95": pytest.approx(list(wilson_interval(5, 5))),
    }  # fmt: skip
    assert section["metrics"]["parsable"]["before"]["value"] == 0.5
    assert section["metrics"]["style"]["before"]["n"] == 5


def test_track_b_refuses_unpaired_and_untested():
    tasks = [task(i) for i in range(4)]
    scores = responses(tasks, 0.5, 1)
    with pytest.raises(MetricsError, match="only before or only after"):
        record_track_b(scores, scores[:-1], tasks, **options())
    with pytest.raises(MetricsError, match="no executable task"):
        record_track_b(scores, scores, [task(i, kind="improve") for i in range(4)], **options())


def test_language_tasks_are_reported_separately(metrics):
    found = metrics["track_b"]["metrics"]
    assert found["pass@1"]["after"]["n"] == 40
    assert found["checks/explain"]["after"]["n"] == 6
    assert found["hallucination_rate"]["after"]["n"] == 46
    assert metrics["track_b"]["baselines"]["copy_input"]["pass@1"]["value"] == 0.0


def test_track_c_by_hand():
    rows = [{"query_id": q, "kind": "how_to", "text": q} for q in "abc"]
    before = {"a": {"mrr@10": 1.0}, "b": {"mrr@10": 0.5}, "c": {"mrr@10": 0.0}}
    after = {"a": {"mrr@10": 1.0}, "b": {"mrr@10": 1.0}, "c": {"mrr@10": 0.25}}
    merged = track_c_rows(rows, before, after, baselines={"bm25": before}, groups={"overlap: none": ["c"]})
    section = record_track_c(merged, **options())
    entry = section["metrics"]["mrr@10"]
    assert (entry["before"]["value"], entry["after"]["value"]) == (0.5, 0.75)
    assert entry["delta"]["value"] == 0.25
    assert section["metrics"]["mrr@10/overlap: none"]["after"] == {
        "value": 0.25,
        "ci95": [0.25, 0.25],
        "n": 1,
    }
    assert section["baselines"]["bm25"]["mrr@10"]["value"] == 0.5
    assert section["baselines"]["bm25"]["mrr@10"]["after_minus_baseline"]["value"] == 0.25
    assert not any("by file" in name or "weighed" in name for name in section["metrics"])
    weighed = {"bm25_and_before_weighted": after, "bm25_and_after_weighted": before}
    searched = record_track_c(track_c_rows(rows, before, after, baselines=weighed), **options())
    assert searched["metrics"]["mrr@10/with BM25 weighed in"]["delta"]["value"] == -0.25
    by_file = {"before": {"b": {"mrr@10": 0.5}}, "after": {"b": {"mrr@10": 1.0}}}
    filed = record_track_c(track_c_rows(rows, before, after, by_file=by_file), **options())
    assert filed["metrics"]["mrr@10/where_is, by file"]["after"] == {"value": 1.0, "ci95": [1.0, 1.0], "n": 1}
    with pytest.raises(MetricsError, match="no queries"):
        record_track_c([], **options())


def test_row_order_changes_nothing(rows):
    """Rows read in another order give the same section, to the digits kept."""
    for record, name in ((record_track_a, "track_a/files"), (record_track_c, "track_c/queries")):
        there, back = record(rows[name], **options()), record(rows[name][::-1], **options())
        assert there == back


# --- the document --------------------------------------------------------------------------------


def test_document_is_valid_and_json(metrics, tmp_path):
    write_json(tmp_path / "metrics.json", metrics)
    assert read_json(tmp_path / "metrics.json") == metrics
    validate(metrics)
    assert metrics["run"]["seconds"] == 700.123


def test_a_track_not_run_says_why(metrics):
    track = not_run("track_b", "only 3 functions have tests", "40 functions with doctests")
    document = assemble(
        run=RUN, track_a=metrics["track_a"], track_b=track, track_c=metrics["track_c"], failures=[]
    )
    row = summary_rows(document)[1]
    assert row["verdict"] == "not run: only 3 functions have tests"
    assert row["change"] == "–"
    assert "40 functions with doctests" in verdict_sentence(track)


@pytest.mark.parametrize(
    ("after", "value", "moved"),
    [(0.5, 0.25, "rose from 0.250 to 0.500"), (0.125, -0.125, "fell from 0.250 to 0.125"),
     (0.25, 0.0, "stayed at 0.250")],
)  # fmt: skip
def test_the_sentence_says_how_the_metric_moved(metrics, after, value, moved):
    track = copy.deepcopy(metrics["track_b"])
    entry = track["metrics"][track["primary_metric"]]
    entry["before"]["value"], entry["after"]["value"], entry["delta"]["value"] = 0.25, after, value
    assert f"{moved} on" in verdict_sentence(track)


def change(document, path, value):
    changed = copy.deepcopy(document)
    *way, last = path
    place = changed
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return changed


PRIMARY_A = ("track_a", "metrics", "bits_per_byte")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("track_a", "verdict"), "no_detectable_difference", r"the figures say 'improved'"),
        ((*PRIMARY_A, "delta", "p_value"), 0.06, r"the figures say 'no_detectable_difference'"),
        ((*PRIMARY_A, "after", "value"), math.nan, r"bits_per_byte.after.value is nan"),
        ((*PRIMARY_A, "after", "ci95"), [0.0, math.inf], r"is inf"),
        ((*PRIMARY_A, "after", "ci95"), [5.0, 6.0], r"outside its interval"),
        ((*PRIMARY_A, "after", "ci95"), [5.0, 4.0], r"is reversed"),
        ((*PRIMARY_A, "after", "n"), 0, r"track_a.metrics.bits_per_byte.after.n"),
        ((*PRIMARY_A, "after", "n"), ..., r"'n' is a required property"),
        ((*PRIMARY_A, "unit"), ..., r"'unit' is a required property"),
        (PRIMARY_A, ..., r"primary metric bits_per_byte is missing"),
        (("track_a", "primary_metric"), "perplexity", r"fixed before any run"),
        (("track_a", "verdict"), "better", r"'better' is not one of"),
        (("track_a", "verdict"), "not_run", r"track_a"),
        (("track_c", "data", "sha256"), ..., r"'sha256' is a required property"),
        (("track_b", "cost", "seconds"), ..., r"'seconds' is a required property"),
        (("run", "commit"), ..., r"'commit' is a required property"),
        (("run", "corpus", "sha256"), "abc", r"run.corpus.sha256"),
        (("failures", 0, "diagnosis"), "", r"failures.0.diagnosis"),
        (("failures",), [dict(tidy(FAILURE))] * 21, r"failures"),
        (("schema_version",), "2.0", r"schema_version"),
        (("notes",), "typed by hand", r"'notes' was unexpected"),
    ],
)
def test_contradictions_are_refused(metrics, path, value, message):
    broken = change(metrics, path, value)
    with pytest.raises(MetricsError, match=message):
        validate(broken)


def test_delta_must_be_the_difference(metrics):
    entry = metrics["track_a"]["metrics"]["bits_per_byte"]["delta"]
    low, _ = entry["ci95"]
    with pytest.raises(MetricsError, match="is not after - before"):
        validate(change(metrics, (*PRIMARY_A, "delta", "value"), (low + entry["value"]) / 2))


def test_unwritable_output_leaves_the_old_file(metrics, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("kept")
    with pytest.raises(WorkspaceError, match="cannot write"):
        write_json(blocked / "metrics.json", metrics)
    assert blocked.read_text() == "kept"


def test_verdict_is_never_passed_in():
    entry = metric_entry(
        Estimate(1.0, (0.9, 1.1), 9),
        Estimate(1.2, (1.1, 1.3), 9),
        Delta(0.2, (0.1, 0.3), 0.01, "any"),
        unit="bits",
        higher_is_better=False,
    )
    section = track_section(
        "m", "x", {"x": entry}, cost={"seconds": 1}, data={"counts": {}, "sha256": "0" * 64}
    )
    assert section["verdict"] == "regressed"
    with pytest.raises(MetricsError, match="not among"):
        track_section("m", "y", {"x": entry}, cost={}, data={})


def test_tidy_returns_plain_numbers():
    value = tidy({"a": np.float32(0.5), "b": np.int64(3), "c": (1 / 3, True), "d": None})
    assert json.loads(json.dumps(value)) == {"a": 0.5, "b": 3, "c": [0.3333333333, True], "d": None}
    with pytest.raises(MetricsError, match=r"metrics.a\[1\] is nan"):
        tidy({"a": [0.0, math.nan]})


# --- computing it all again ----------------------------------------------------------------------


@pytest.fixture
def finished(metrics, rows, tmp_path):
    for name, items in rows.items():
        write_items(tmp_path, name, items)
    write_json(tmp_path / "report" / "metrics.json", metrics)
    return tmp_path


def test_recompute_agrees(finished):
    assert recompute(finished) == []


def test_recompute_reads_stage_folders_too(finished):
    for name in ("track_a/files", "track_b/scores_after", "track_c/control_shuffled"):
        (finished / name).mkdir()
        (finished / f"{name}.jsonl").rename(finished / name / "rows.jsonl")
    assert recompute(finished) == []


def test_times_speeds_and_memory_alone_are_left_out_of_a_comparison() -> None:
    cost = {
        "seconds": 2.0, "seconds_by_stage": {"train": 1.0}, "tokens_per_second": 3.0, "peak_memory_gib": 4.0,
        "memory_by_stage": {"train": {"planned_gib": 5.0, "held_before_gib": 6.0, "peak_gib": 7.0}},
        "index": {"encode_query_ms": 8.0, "kinds": [{"query_ms": 9.0, "build_seconds": 1.0, "recall": 0.5}]},
        "lowered": ["micro-batch 4 -> 2"],
    }  # fmt: skip
    run = {"run_id": "a", "started": "now", "seconds": 1.0, "seed": 17, "commit": "c"}
    assert timeless({"run": run, "track_a": {"cost": cost, "metrics": {"n": 1}}}) == {
        "run": {"seed": 17, "commit": "c"},
        "track_a": {
            "cost": {
                "memory_by_stage": {"train": {"planned_gib": 5.0}}, "index": {"kinds": [{"recall": 0.5}]},
                "lowered": ["micro-batch 4 -> 2"],
            },
            "metrics": {"n": 1},
        },
    }  # fmt: skip


def test_recompute_finds_a_changed_row(finished, rows):
    scores = rows["track_b/scores_after"]
    flipped = [
        s if (s.task_id, s.sample) != ("t000", 0) else scored(TASKS[0], 0, not s.passed) for s in scores
    ]
    write_items(finished, "track_b/scores_after", flipped)
    lines = recompute(finished)
    assert any(line.startswith("track_b.metrics.pass@1.after.value:") for line in lines)
    assert not any(line.startswith(("track_a", "track_c")) for line in lines)


def test_recompute_says_what_is_missing(finished, tmp_path):
    (finished / "track_c" / "queries.jsonl").unlink()
    (line,) = recompute(finished)
    assert line.startswith("track_c: cannot be recomputed")
    with pytest.raises(MetricsError, match=r"no metrics\.json"):
        recompute(tmp_path / "track_a")


def test_adding_your_own_metric(finished, metrics):
    """As `evaluate.Metric`, offline, and as a plain function; both give the mean with its interval."""
    import datasets
    import evaluate

    class ExactMatch(evaluate.Metric):
        def _info(self):
            features = datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            )
            return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

        def _compute(self, predictions, references):
            return {
                "exact_match": sum(p == r for p, r in zip(predictions, references, strict=True))
                / len(references)
            }

    wanted, before, after = list("abcdefgh"), list("abxxxxxx"), list("abcdefgx")
    options = {"groups": wanted, "seed": 1, "samples": 200}
    track = add_metric(metrics["track_b"], "exact_match", ExactMatch(), before, after, wanted, **options)
    entry = track["metrics"]["exact_match"]
    assert (entry["before"]["value"], entry["after"]["value"]) == (0.25, 0.875)
    track = add_metric(
        track, "wrong", lambda p, r: p != r, before, after, wanted, higher_is_better=False, **options
    )
    assert track["metrics"]["wrong"]["delta"]["value"] == -0.625
    write_json(finished / "report" / "metrics.json", {**metrics, "track_b": track})
    assert recompute(finished) == []
    with pytest.raises(MetricsError, match="already a metric called"):
        add_metric(track, "pass@1", ExactMatch(), before, after, wanted, **options)
    with pytest.raises(MetricsError, match="one entry per item"):
        add_metric(track, "short", ExactMatch(), before[:3], after, wanted, **options)


# --- tables and sentences ------------------------------------------------------------------------


def test_number_formatting():
    assert number(0.12345) == "0.123"
    assert number(-0.5, signed=True) == "−0.500"
    assert number(0.00012, signed=True) == "+0.00012"
    assert number(-1e-9, signed=True) == "0.000"
    assert number(123.456) == "123.5"
    assert number(-0.0) == "0.000"
    assert number(12.3456) == "12.35"
    assert p_text(0.0002) == "p < .001"
    assert p_text(0.03125) == "p = .031"
    assert p_text(1.0) == "p = 1.000"


def test_sentence_follows_the_figures(metrics):
    improved = verdict_sentence(metrics["track_a"])
    assert improved.startswith("Bits per byte fell from ")
    assert "improvement beyond chance" in improved
    entry = copy.deepcopy(metrics["track_a"])
    entry["metrics"]["bits_per_byte"]["higher_is_better"] = True
    assert "regression beyond chance" in verdict_sentence(entry)
    entry["metrics"]["bits_per_byte"]["delta"]["ci95"] = [-0.5, 0.1]
    assert "no detectable difference" in verdict_sentence(entry)
    assert "not proof" in verdict_sentence(entry)


def test_tables_show_every_metric(metrics):
    assert list(summary_table(metrics)["Verdict"]) == ["improved", "improved", "improved"]
    table = metric_table(metrics["track_b"])
    assert list(table.columns) == ["Before", "After", "Change [95% interval]", "p", "n", "Reading"]
    assert "pass@1, greedy · fix bug" in table.index
    assert len(table) == len(metrics["track_b"]["metrics"])
    assert "general code" in control_table(metrics["track_a"]).index
    assert list(baseline_table(metrics["track_c"]).index) == ["before adaptation", "after adaptation", "bm25"]
    assert list(baseline_table(metrics["track_a"]).index)[-1] == "unigram"
    lines = markdown(table).splitlines()
    assert len(lines) == len(table) + 2
    assert {line.count(" | ") for line in lines} == {6}


def test_cost_table_lists_what_ran(metrics):
    cost = {"seconds": 90.0, "seconds_by_stage": {"train": 60.0, "after": 30.0}, "peak_memory_gib": 1.25}
    document = {t: {"cost": cost} for t in ("track_a", "track_b")} | {"track_c": {"cost": {}}}
    table = cost_table(document)
    assert len(table) == 2
    assert table["Minutes"].iloc[0] == "1.5"
    assert table["Stages"].iloc[0] == "train 60 s, after 30 s"


def test_printed_summary_holds_the_verdicts(metrics):
    console = Console(width=140, record=True, file=io.StringIO())
    print_summary(metrics, console)
    text = console.export_text()
    assert text.count("improved") == 3
    assert "Profile cpu · installed:networkx · 11.7 min" in text
    assert "tiny" in text


def test_track_b_measures_by_kind_add_up():
    tasks = [task(i, "fix_bug" if i % 3 else "implement") for i in range(24)]
    before, after = responses(tasks, 0.2, 1), responses(tasks, 0.6, 2)
    found = record_track_b(before, after, tasks, ks=(1, 2, 3), temperature=0.6, **options())["metrics"]
    for name in ("pass@1", "pass@1_sampled", "pass@2", "pass@3", "style", "hallucination_rate"):
        kinds = [found[f"{name}/{kind}"]["after"] for kind in ("fix_bug", "implement")]
        total = sum(entry["value"] * entry["n"] for entry in kinds)
        assert found[name]["after"]["n"] == sum(entry["n"] for entry in kinds) == 24
        assert found[name]["after"]["value"] == pytest.approx(total / 24)


def described(place: str, node: object) -> list[str]:
    """Return the places of keys in a schema's `properties` that have no description."""
    if isinstance(node, list):
        return [lack for item in node for lack in described(place, item)]
    if not isinstance(node, dict):
        return []
    lacking = [
        f"{place}.{name}"
        for name, one in node.get("properties", {}).items()
        if set(one) - {"const", "properties", "maxProperties", "minProperties", "minLength", "required"}
        and not one.get("description")
    ]
    return lacking + [lack for name, one in node.items() for lack in described(f"{place}.{name}", one)]


def test_the_schema_says_what_every_key_means():
    schema = read_json(SCHEMA)
    assert described("", schema) == []
    assert described("", {"properties": {"x": {"type": "string"}}}) == [".x"]
    assert described(
        "", {"$defs": {"a": {"properties": {"x": {"$ref": "#"}, "y": {"description": "y"}}}}}
    ) == [".$defs.a.x"]


def test_every_key_that_a_run_writes_is_in_the_schema():
    """Free maps (metrics, controls, cost, data, hardware, ...) are described as a whole."""
    written, schema = read_json(SCHEMA.parents[2] / "metrics.json"), read_json(SCHEMA)
    parts = schema["$defs"]
    assert written.keys() <= schema["properties"].keys()
    assert written["run"].keys() <= parts["run"]["properties"].keys()
    assert written["run"]["corpus"].keys() <= parts["run"]["properties"]["corpus"]["properties"].keys()
    for track in ("track_a", "track_b", "track_c"):
        assert written[track].keys() <= parts["track"]["properties"].keys()
