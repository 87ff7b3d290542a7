"""The lab's statistics, and its readers of results and profiles: hand-computed values and forged files."""

from __future__ import annotations

import io
import json
import math
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_problem import SLOW

from helpers.profiling_lab.pair_timing import FEWEST, ratio_of, time_pairs
from helpers.profiling_lab.profile_artefact import Profile, check_profile, read_profile
from helpers.profiling_lab.result_files import BadOutput, equal_results, read_figure, read_result, stray_files
from helpers.profiling_lab.script_child import Notes
from helpers.profiling_lab.script_runner import ScriptRun, packed


def run_with(files: dict[str, bytes | None], **notes: object) -> ScriptRun:
    found = {f"output/run_001/{name}": content for name, content in files.items()}
    return ScriptRun("", None, 0.1, 0.1, "", notes, found, "output/run_001")


def test_the_ratio_and_its_interval_by_hand() -> None:
    # logs ln 2, ln 4, ln 8: mean ln 4, deviation ln 2, Student's t with 2 degrees 4.302653
    ratio = ratio_of([(2.0, 1.0), (4.0, 1.0), (8.0, 1.0)])
    half = 4.302652729911275 * math.log(2) / math.sqrt(3)
    assert ratio.value == pytest.approx(4.0)
    assert ratio.interval == pytest.approx((4 * math.exp(-half), 4 * math.exp(half)))


@given(
    st.lists(st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)), min_size=2, max_size=8),
    st.floats(0.1, 10),
)
def test_a_busier_machine_that_slows_both_of_a_pair_changes_nothing(pairs, slower) -> None:
    ratio, busy = ratio_of(pairs), ratio_of([(slow * slower, fast * slower) for slow, fast in pairs])
    assert busy.value == pytest.approx(ratio.value)
    assert busy.interval == pytest.approx(ratio.interval)
    turned = ratio_of([(fast, slow) for slow, fast in pairs])
    assert turned.value == pytest.approx(1 / ratio.value)


@pytest.mark.parametrize("pairs", [[(1.0, 1.0)], [(1.0, 0.0)] * 5, [(1.0, -1.0)] * 5, [(math.nan, 1.0)] * 5])
def test_times_that_are_none_are_refused(pairs) -> None:
    with pytest.raises(ValueError, match=r"pairs|time"):
        ratio_of(pairs)


def test_more_pairs_are_run_only_while_the_interval_straddles_the_bar() -> None:
    assert len(time_pairs(lambda n: (3.0 + 0.01 * n, 1.0), 2.0).pairs) == FEWEST
    assert len(time_pairs(lambda n: (1.0 + 0.01 * n, 1.0), 2.0).pairs) == FEWEST
    wide = time_pairs(lambda n: (1.0 + 2 * (n % 2), 1.0), 1.7, most=11)
    assert len(wide.pairs) == 11
    assert wide.interval[0] < 1.7 <= wide.interval[1]


def test_a_result_comes_back_as_it_was_saved() -> None:
    arrays = {"weights": np.arange(6.0).reshape(2, 3), "rows": np.array([3, 1])}
    found = read_result(run_with({"result.npz": packed(arrays)}))
    assert equal_results(found, arrays) == ""
    assert equal_results(found, arrays | {"rows": np.array([1, 3])}) == "rows"
    assert equal_results(found, {"rows": arrays["rows"]}) == "weights"


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(80 * 2**20))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no regular file"), (b"", "plain arrays"), (b"PK\x03\x04", "plain arrays"), (bomb(), "unpacks to"),
        (packed({"a": np.array([1.0, np.inf])}), "NaN or infinity"),
        (packed({"a": np.array(["x"])}), "no array of numbers"),
        (packed({"a": np.array([object()])}), "plain arrays"),
        (packed({"a": np.array([1])})[:-30], "plain arrays"),
    ],
)  # fmt: skip
def test_a_forged_result_is_a_sentence(content, told) -> None:
    with pytest.raises(BadOutput, match=told):
        read_result(run_with({"result.npz": content}))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"loss": NaN}', '{"loss": -1}', '{"loss": true}',
                                  '{"loss": "1"}', '{"loss": Infinity}', "[" * 3000])  # fmt: skip
def test_a_figure_that_is_none_is_refused(text) -> None:
    with pytest.raises(BadOutput):
        read_figure(run_with({"report.json": text.encode()}), "loss")


def test_files_outside_the_runs_folder_are_found() -> None:
    run = run_with({"result.npz": b""}, outside=["/etc/x"])
    assert stray_files(run) == ["/etc/x (refused)"]
    elsewhere = ScriptRun("", None, 0, 0, "", {}, {"a.npz": b"", "output/run_002/x": b""}, "output/run_001")
    assert stray_files(elsewhere) == ["a.npz", "output/run_002/x"]


@pytest.mark.parametrize(
    ("path", "mode", "flags", "noted"),
    [
        ("output/run_001/x", "w", 0, False), ("x", "w", 0, True), ("x", "r", 0, False), ("x", "r+b", 0, True),
        ("output/run_001/../../x", "w", 0, True), ("output/x", None, 0x41, True), ("/dev/null", "w", 0, False),
        (3, "w", 0, True), (3, "r", 0, False), (b"y", "a", 0, True),
    ],
)  # fmt: skip
def test_a_write_is_noted_by_where_it_goes(path, mode, flags, noted) -> None:
    notes = Notes("/home/run")
    notes.hook("open", (path, mode, flags))
    assert bool(notes.outside) == noted


@pytest.mark.parametrize(
    ("event", "arguments", "noted"),
    [
        ("compile", (None, "output/run_1/own.py"), True), ("compile", (None, b"output/run_1/own.py"), True),
        ("compile", (None, "/proc/self/cwd/own.py"), True), ("compile", (None, "submission.py"), False),
        ("compile", (None, "<string>"), False), ("compile", (None, np.__file__), False), ("marshal.load", (), True),
        ("exec", (compile("1", "output/run_1/own.py", "exec"),), True), ("compile", (None, "baseline.py"), True),
        ("exec", (compile("1", "submission.py", "exec"),), False), ("pickle.find_class", ("os", "system"), True),
    ],
)  # fmt: skip
def test_code_that_a_run_wrote_itself_ends_it(event, arguments, noted, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended: list[Notes] = []
    notes = Notes(str(tmp_path), end=ended.append)
    notes.hook(event, arguments)
    assert bool(notes.events) == bool(ended) == noted
    profiling = Notes(str(tmp_path), profiling=True)
    profiling.hook("compile", (None, "baseline.py"))
    assert profiling.events == []


def trace(*events: tuple[str, float]) -> bytes:
    rows = [{"ph": "X", "name": name, "dur": micros} for name, micros in events]
    return json.dumps({"traceEvents": rows}).encode()


def test_a_torch_trace_is_read_like_a_cprofile_file() -> None:
    content = trace(("aten::mm", 9e9), ("baseline.py(11): centroid", 5.0), ("baseline.py(11): centroid", 6.0),
                    ("baseline.py(20): train", 20.0), ("runpy.py(1): run", 90.0),
                    *((f"lab/script_child.py({n}): f{n}", 99.0) for n in range(6)))  # fmt: skip
    error, profile = read_profile(run_with({"profile.json": content}), lambda _: ("unused", []))
    assert error == ""
    assert profile.calls == {"centroid": 2, "train": 1}
    assert profile.top[0] == ("baseline.py", "train")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"traceEvents": 3}', b'{"traceEvents": [3]}'])
def test_a_forged_trace_is_told(content) -> None:
    error, profile = read_profile(run_with({"profile.json": content}), lambda _: ("", []))
    assert "torch.profiler" in error
    assert profile is None


def test_a_profile_that_was_not_kept_is_told() -> None:
    assert "larger than 16 MiB" in read_profile(run_with({"profile.json": None}), lambda _: ("", []))[0]
    assert "wrote neither" in read_profile(run_with({}), lambda _: ("", []))[0]


def test_a_file_of_py_spy_is_told_by_its_name() -> None:
    """As py-spy 0.4.3 writes it with --format speedscope."""
    content = (
        b'{"$schema":"https://www.speedscope.app/file-format-schema.json","profiles":[{"type":"sampled","name":'
        b'"Thread 1","unit":"seconds","startValue":0.0,"endValue":0.02,"samples":[[0],[0]],"weights":[0.01,0.01]}],'
        b'"shared":{"frames":[{"name":"slow","file":"spin.py","line":2,"col":null}]},"exporter":"py-spy"}'
    )
    error, profile = read_profile(run_with({"profile.json": content}), lambda _: ("", []))
    assert "py-spy's, which holds samples and no calls" in error
    assert profile is None


def test_a_profile_must_be_of_the_slow_script_with_its_own_counts() -> None:
    own = Profile({"centroid": 2, "train": 1, "add": 30}, (("baseline.py", "train"),))
    assert check_profile(own, own, SLOW)[0]
    less = Profile({"centroid": 2, "train": 1, "add": 29}, own.top)
    assert "29 calls of `add`; on this data there are 30" in check_profile(less, own, SLOW)[1]
    other = Profile(own.calls, (("submission.py", "train"),))
    assert "no function of the slow script" in check_profile(other, own, SLOW)[1]
    assert not check_profile(Profile({}, ()), own, SLOW)[0]
