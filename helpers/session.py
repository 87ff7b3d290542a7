"""One run from start to finish: settings, machine, run folder, and the reports it ends with.

The notebook opens a session in its first section and closes it in its last. Between the two,
every expensive step goes through `Session.stage` or `Session.rows`, so that an interrupted run can
go on where it stopped, and every figure is computed from rows that lie on disk.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from IPython import get_ipython

from helpers.notebook_cells import register_track_magic
from helpers.records import InsufficientDataError
from helpers.runtime import Runtime, detect_runtime, package_versions, set_seed
from helpers.settings import MINIMUM_DATA, Profile, resolve_profile
from helpers.workspace import (
    Workspace,
    WorkspaceError,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)

R = TypeVar("R")

PACKAGE = Path(__file__).resolve().parent


@dataclass
class Session:
    """A run in progress; create it with `open_session`."""

    profile: Profile
    runtime: Runtime
    workspace: Workspace
    out: Path
    started: str  # UTC, ISO 8601
    clock: float = field(default_factory=time.perf_counter)
    not_run: dict[str, str] = field(default_factory=dict)  # track -> what it lacks

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

    @cached_property
    def code_digest(self) -> str:
        """SHA-256 over this package's sources: a stage built by other code is built again."""
        return source_digest()

    def stage(self, name: str, inputs: Any, build: Callable[[Path], Any]) -> Path:
        """Folder of stage `name`, built once for these inputs (see `Workspace.stage`)."""
        everything = [inputs, self.code_digest, package_versions(), str(self.runtime.autocast_dtype)]
        set_seed(self.seed)
        return self.workspace.stage(name, everything, build)

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
            self.not_run[track] = f"the corpus {self.profile.corpus.spec} gives only " + ", ".join(short)
        return not short

    def reason_not_run(self, track: str) -> str | None:
        """Why `track` does not run, or None; KeyError for a name that is no track."""
        if track not in MINIMUM_DATA:
            raise KeyError(f"no track {track!r}; there are {', '.join(MINIMUM_DATA)}")
        return self.not_run.get(track)

    def attempt(self, track: str, build: Callable[..., R], *arguments: Any, **options: Any) -> R | None:
        """`build(...)`, or None where the corpus lacks the data for it; the track is then not run.

        Only `InsufficientDataError` is caught: a leak or a bug still ends the run.
        """
        try:
            built = build(*arguments, **options)
        except InsufficientDataError as error:
            self.not_run[track] = str(error)
            print(f"{track} will not run: {error}")
            return None
        self.not_run.pop(track, None)
        return built

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
        write_json(self.folder / "report" / self.report_name("metrics", ".json"), metrics)
        write_text(self.folder / "report" / self.report_name("data_card", ".md"), data_card)

    def publish(self) -> list[Path]:
        """Copy the finished reports to the output folder; called once everything has succeeded.

        In Colab the open notebook is exported as HTML first; headless runs do that after the last
        cell (`helpers.report.suite`).
        """
        from helpers.report.export import html_document, open_notebook

        notebook = open_notebook()
        if notebook is not None:
            report = self.folder / "report"
            metrics = read_json(report / self.report_name("metrics", ".json"))
            page = report / "exports" / self.report_name("ML_Assignment_Part2", ".html")
            write_text(page, html_document(notebook, metrics))
        return publish_reports(self.folder, self.out)


def source_digest() -> str:
    """SHA-256 over the Python sources of this package, in path order."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(path.relative_to(PACKAGE).as_posix().encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


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
    out: str | Path = ".",
    resume: bool = False,
    run_id: str = "",
) -> Session:
    """Decide what this run is and where it lies.

    Args:
        profile: a name of `settings.PROFILES`, or "auto": `t4` with a CUDA device, else `cpu`.
        corpus, causal_lm, chat_lm, embedder: override the profile's; "" keeps them.
        nf4: hold the frozen weights of the causal LMs in 4 bits.
        language: who writes the prose of Track B's pairs (`helpers.data.language_models`).
        benchmarks: problem files whose code no pair may hold, separated by commas.
        out: folder that receives the reports; the run folder is `out/runs/<run_id>`.
        resume: go on with the newest unfinished run of exactly these settings, if there is one.
        run_id: name of the run folder; made from profile and time when empty.

    Raises:
        SettingsError: for an unknown profile or language back end.
        WorkspaceError: if the run folder cannot be created.
    """
    chosen, folder = choose_run(
        profile,
        out=out,
        resume=resume,
        run_id=run_id,
        corpus=corpus,
        causal_lm=causal_lm,
        chat_lm=chat_lm,
        embedder=embedder,
        seed=seed,
        nf4=nf4,
        language=language,
        benchmarks=benchmarks,
    )
    now = datetime.datetime.now(datetime.UTC)
    runtime = detect_runtime(nf4=chosen.nf4)
    set_seed(chosen.seed)
    started = now.isoformat(timespec="seconds")
    session = Session(chosen, runtime, Workspace(folder, folder.name), Path(out), started)
    shell = get_ipython()
    if shell is not None:
        register_track_magic(shell, session.reason_not_run)
    return session


def choose_run(
    profile: str,
    *,
    out: str | Path,
    resume: bool = False,
    run_id: str = "",
    **overrides: Any,
) -> tuple[Profile, Path]:
    """Resolve the profile and create (or, to resume, find) its run folder.

    Args:
        overrides: corpus, models, seed, nf4, language and benchmarks, as `settings.resolve_profile` takes them.

    Raises:
        SettingsError, WorkspaceError: as `open_session`.
    """
    if profile == "auto":
        profile = "t4" if torch.cuda.is_available() else "cpu"
    chosen = resolve_profile(profile, **overrides)
    runs = Path(out) / "runs"
    if resume and not run_id:
        run_id = _newest_unfinished(runs, chosen) or ""
    folder = runs / (run_id or _unused_name(runs, chosen.name))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkspaceError(
            f"cannot write to {out}: {error.strerror}; choose another folder with --out"
        ) from error
    write_json(folder / "run.json", {"fingerprint": chosen.fingerprint(), "profile": chosen})
    return chosen, folder


def publish_reports(run_folder: Path, out: Path) -> list[Path]:
    """Copy everything below `<run folder>/report/` to `out`, each file by one atomic rename.

    Returns:
        The published paths, sorted.
    """
    report = run_folder / "report"
    targets = {p: out / p.relative_to(report) for p in sorted(report.rglob("*")) if p.is_file()}
    copies = {target: target.with_name(f".{target.name}.new") for target in targets.values()}
    try:
        for source, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copies[target])
        for target, copied in copies.items():  # nothing is replaced before everything is copied
            copied.replace(target)
    except OSError as error:
        for copied in copies.values():
            with contextlib.suppress(OSError):
                copied.unlink()
        raise WorkspaceError(f"cannot write {error.filename}: {error.strerror}") from error
    return list(targets.values())


def code_revision() -> str:
    """Git revision of the code with "+" where the tree has changes; "unknown" outside a checkout."""
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no", "--", "."],
            cwd=PACKAGE,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return revision + ("+" if changed else "")


def _unused_name(runs: Path, profile: str) -> str:
    """Profile and UTC time, with a number where two runs start within one second."""
    name = f"{profile}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}"
    candidates = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return next(candidate for candidate in candidates if not (runs / candidate).exists())


def _newest_unfinished(runs: Path, profile: Profile) -> str | None:
    """Newest run folder with the same settings that has no report yet."""
    if not runs.is_dir():
        return None
    for folder in sorted((f for f in runs.iterdir() if f.is_dir()), reverse=True):
        try:
            same = read_json(folder / "run.json")["fingerprint"] == profile.fingerprint()
        except (OSError, ValueError, KeyError):
            continue
        if same and not (folder / "report").exists():
            return folder.name
    return None
