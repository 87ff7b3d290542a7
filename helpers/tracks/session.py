"""One run from start to finish: settings, machine, run folder, and the reports it ends with.

The notebook opens a session in its first section and closes it in its last. Between the two,
every expensive step goes through `Session.stage` or `Session.rows`, so that an interrupted run can
go on where it stopped, and every figure is computed from rows that lie on disk.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from IPython import get_ipython

from helpers.machine import progress
from helpers.machine.hardware import (
    Runtime,
    detect_runtime,
    held_memory_gib,
    package_versions,
    peak_memory_gib,
    reset_peak_memory,
    set_seed,
)
from helpers.machine.storage import storage_decisions
from helpers.models.shapes import model_identity
from helpers.run.code_identity import code_digest
from helpers.run.expected_seconds import minutes_expected
from helpers.run.folder import choose_run, publish_reports, second_copy_root
from helpers.run.lock import lock_run
from helpers.run.second_copy import SecondCopy
from helpers.run.stage_names import is_control
from helpers.run.workspace import (
    Workspace,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)
from helpers.settings import MINIMUM_DATA, Profile, public_spec
from helpers.tracks.guards import Guards
from helpers.tracks.notebook_cells import register_cell_magics
from helpers.tracks.stage_inputs import read_by

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
    guards: Guards = field(init=False)  # what this run could not do, and goes on without
    _written: dict[str, Any] = field(default_factory=dict, repr=False)  # metrics, once they are written
    _identities: dict[str, str] = field(default_factory=dict, repr=False)  # model -> what its weights are

    def __post_init__(self) -> None:
        self.guards = Guards(self.folder, on_warning=self._write_late_warning)

    @property
    def not_run(self) -> dict[str, str]:
        """Track -> why it does not run."""
        return self.guards.not_run

    @property
    def seed(self) -> int:
        """The seed that everything random in this run derives from."""
        return self.profile.seed

    @property
    def folder(self) -> Path:
        """`runs/<run_id>/`: adapters, index, pairs, per-item rows."""
        return self.workspace.folder

    @property
    def seconds(self) -> float:
        """Wall-clock seconds since the session was opened."""
        return time.perf_counter() - self.clock

    @property
    def minutes_expected(self) -> float:
        """Minutes that the whole notebook takes on the machine that the profile is meant for."""
        return minutes_expected(self.profile)

    def stage(self, name: str, inputs: Any, build: Callable[[Path], Any]) -> Path:
        """Folder of stage `name`, built once for these inputs (see `Workspace.stage`).

        Of settings among the inputs, those that the stage reads count (`helpers.tracks.stage_inputs`). Beside
        the inputs it depends on the seed, the code that `build` uses (`helpers.run.code_identity`), the
        versions of what it rests on, the precision, and the weights of its track's model. The memory it
        took lies in `memory.json`.
        """
        everything = [read_by(name, inputs), self.seed, code_digest(build), package_versions()]
        everything += [self._precision, self._model_of(name)]
        set_seed(self.seed)

        with progress.step(name, control=is_control(name)) as begins:

            def measured(out: Path) -> None:
                begins()
                reset_peak_memory()
                before = held_memory_gib()
                build(out)
                write_json(out / "memory.json", {"held_before_gib": before, "peak_gib": peak_memory_gib()})

            return self.workspace.stage(name, everything, measured)

    @property
    def _precision(self) -> list[str]:
        runtime = self.runtime
        return [runtime.device.type, str(runtime.weight_dtype), str(runtime.autocast_dtype), str(runtime.nf4)]

    def _model_of(self, stage: str) -> str:
        """Identity of the model that a stage `track_x/...` works with; "" for any other stage."""
        track = getattr(self.profile, stage.split("/")[0], None)
        return self._identity(track.model) if hasattr(track, "model") else ""

    def _identity(self, spec: str) -> str:
        if spec not in self._identities:
            self._identities[spec] = model_identity(spec)
        return self._identities[spec]

    def rows(
        self,
        name: str,
        inputs: Any,
        compute: Callable[[], Iterable[Any]],
        record: Callable[..., Any] = dict,
    ) -> list[Any]:
        """Records that `compute` returns, kept as `<name>/rows.jsonl` and read back from there."""
        folder = self.stage(name, inputs, lambda out: write_jsonl(out / "rows.jsonl", compute()))
        return read_jsonl(folder / "rows.jsonl", record)

    def json(self, name: str, inputs: Any, compute: Callable[[], Any]) -> Any:
        """One JSON value that `compute` returns, kept as `<name>/value.json`."""
        folder = self.stage(name, inputs, lambda out: write_json(out / "value.json", compute()))
        return read_json(folder / "value.json")

    def require(self, track: str, **counts: int) -> bool:
        """Check a track's data against `settings.MINIMUM_DATA`; short of it, the track is not run.

        Args:
            counts: what there is, by the names of `MINIMUM_DATA[track]`.

        Returns:
            Whether the track runs. If not, `not_run[track]` says what is missing and what would do.
        """
        needs = MINIMUM_DATA[track]
        short = [
            f"{counts[what]} {what.replace('_', ' ')} of at least {least}"
            for what, least in needs.items()
            if counts[what] < least
        ]
        self.not_run.pop(track, None)
        if short:
            self.not_run[track] = (
                f"the corpus {public_spec(self.profile.corpus.spec)} gives only " + ", ".join(short)
            )
        return not short

    def reason_not_run(self, track: str) -> str | None:
        """Why `track` does not run, or None; KeyError for a name that is no track."""
        if track not in MINIMUM_DATA:
            raise KeyError(f"no track {track!r}; there are {', '.join(MINIMUM_DATA)}")
        return self.not_run.get(track)

    def attempt(self, track: str, build: Callable[..., R], *arguments: Any, **options: Any) -> R | None:
        """`build(...)`, or None where it fails; the track is then not run (`Guards.attempt`)."""
        return self.guards.attempt(track, build, *arguments, **options)

    def history(self, stage: str) -> dict[str, Any]:
        """What the training stage `stage` left in its `history.json`."""
        return read_json(self.folder / stage / "history.json")

    def items(self, name: str) -> list[dict[str, Any]]:
        """Per-item rows kept as `<run folder>/<name>.jsonl`."""
        return read_jsonl(self.folder / f"{name}.jsonl")

    def report_name(self, stem: str, suffix: str) -> str:
        """File name of a report: anything that is not a full run carries its profile's name."""
        return f"{stem}{suffix}" if self.profile.is_full_run else f"{stem}.{self.profile.name}{suffix}"

    def write_report(self, metrics: dict, data_card: str) -> None:
        """Put `metrics.json` and the data card into the run folder, ready to be published."""
        self._written = metrics
        write_json(self._metrics_file, metrics)
        write_text(self.folder / "report" / self.report_name("data_card", ".md"), data_card)

    @property
    def _metrics_file(self) -> Path:
        return self.folder / "report" / self.report_name("metrics", ".json")

    def _write_late_warning(self) -> None:
        """Put what was warned of after the report was written into it, such as a plot of the results."""
        if self._written:
            said = self._written["run"]["warnings"]
            said += [warning for warning in self.guards.warnings if warning not in said]
            write_json(self._metrics_file, self._written)

    def publish(self) -> list[Path]:
        """Copy the finished reports to the output folder; called once everything has succeeded.

        In Colab the open notebook is exported as HTML first; headless runs do that after the last
        cell (`helpers.report.suite`).
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


def open_session(
    profile: str = "auto",
    *,
    corpus: str = "",
    causal_lm: str = "",
    chat_lm: str = "",
    embedder: str = "",
    seed: int | None = None,
    nf4: bool = False,
    language: str = "",
    benchmarks: str = "",
    changes: str = "",
    out: str | Path = ".",
    resume: bool = False,
    run_id: str = "",
    keep: str | Path = "",
) -> Session:
    """Decide what this run is and where it lies.

    Args:
        profile: a name of `settings.PROFILES`, or "auto": `t4` with a CUDA device, else `cpu`.
        corpus, causal_lm, chat_lm, embedder: override the profile's; "" keeps them.
        nf4: hold the frozen weights of the causal LMs in 4 bits.
        language: who writes the prose of Track B's pairs (`helpers.data.tasks.prose_models`).
        benchmarks: problem files whose code no pair may hold, separated by commas.
        changes: single settings by name (`settings.resolve_profile`).
        out: folder that receives the reports; the run folder is `out/runs/<run_id>`.
        resume: go on with the newest unfinished run of exactly these settings, if there is one, and
            take over finished stages of other runs that would come out the same.
        run_id: name of the run folder; made from profile and time when empty.
        keep: folder for a second copy of finished stages, such as a mounted Drive; "" keeps none.

    Raises:
        SettingsError: for an unknown profile or language back end.
        WorkspaceError: if the run folder cannot be created or another process works in it, or if
            `keep` is not there.
    """
    chosen, folder = choose_run(
        profile,
        out=out,
        resume=resume,
        run_id=run_id,
        keep=keep,
        corpus=corpus,
        causal_lm=causal_lm,
        chat_lm=chat_lm,
        embedder=embedder,
        seed=seed,
        nf4=nf4,
        language=language,
        benchmarks=benchmarks,
        changes=changes,
    )
    lock_run(folder)
    copy = SecondCopy(second_copy_root(keep), folder.name) if keep else None
    if copy:
        copy.keep_file(folder / "run.json", "run.json")
    now = datetime.datetime.now(datetime.UTC)
    runtime = detect_runtime(nf4=chosen.nf4)
    decisions = (*runtime.decisions, *storage_decisions(folder, copy.root if copy else None))
    runtime = dataclasses.replace(runtime, decisions=decisions)
    set_seed(chosen.seed)
    started = now.isoformat(timespec="seconds")
    session = Session(chosen, runtime, Workspace(folder, folder.name, copy, reuse=resume), Path(out), started)
    shell = get_ipython()
    if shell is not None:
        register_cell_magics(shell, session.guards, session.reason_not_run)
    return session
