"""Guards around the steps of a run: a failure costs as little as it can.

An item is set aside, a control or a plot is left out with a warning, a track ends as `not_run` with its
reason. Only what concerns the whole run (a full disk, a person who stops it) is raised. Nothing is
hidden: each loss is printed where it happens and listed in the reports, and its traceback is kept in
`errors.txt` of the run folder.
"""

from __future__ import annotations

import datetime
import functools
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from IPython.display import display

from helpers.error_text import RESUME, concerns_whole_run, told
from helpers.errors import CheckError
from helpers.records import TaskSetAside

P = ParamSpec("P")
R = TypeVar("R")
NAMED_ITEMS = 5  # of the items left out; the others are counted
ERRORS = "errors.txt"


def step(method: Callable[Concatenate[Any, P], Any]) -> Callable[Concatenate[Any, P], None]:
    """Run the method only while its track runs, and let its failure end the track (`Guards.step`)."""

    @functools.wraps(method)
    def guarded(track: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        track.run.guards.step(track.name, method.__name__, functools.partial(method, track, *args, **kwargs))

    return guarded


def track_title(track: str) -> str:
    """Return "Track A" for "track_a"."""
    return track.replace("_", " ").title()


@dataclass
class Guards:
    """The losses of one run so far; `helpers.tracks.whole_run` adds them to its reports."""

    folder: Path  # of the run
    not_run: dict[str, str] = field(default_factory=dict)  # track -> why
    missing: dict[str, str] = field(default_factory=dict)  # part of the report -> why
    warnings: list[str] = field(default_factory=list)  # shown at the top of every report
    recorded: set[str] = field(default_factory=set)  # tracks whose section this run has written
    set_aside: list[TaskSetAside] = field(default_factory=list)
    on_warning: Callable[[], None] = field(default=lambda: None, repr=False)
    _stopped_at: dict[str, str] = field(default_factory=dict, repr=False)  # track or part -> what failed

    def warn(self, text: str) -> None:
        """Print a warning, and keep it once for the reports."""
        print(f"Warning: {text}")
        if text not in self.warnings:
            self.warnings.append(text)
            self.on_warning()

    def end_track(self, track: str, reason: str) -> None:
        """End `track` as `not_run`; the reason is printed and goes into the reports."""
        self.not_run[track] = reason
        self.recorded.discard(track)
        print(f"{track_title(track)} ends here: {reason}")

    def fail_track(self, track: str, error: Exception) -> None:
        """End `track` because of an error in one of its steps; a section that is recorded already is kept.

        An error that concerns the whole run is raised, here and in the other methods.
        """
        self._keep_traceback(track_title(track), error)
        if track in self.not_run:  # the first reason is the one that counts
            return
        if track in self.recorded:
            self.warn(f"{track_title(track)} is recorded, but a step that shows it failed: {told(error)}")
        elif getattr(error, "explains_itself", False):
            self.end_track(track, told(error))
        else:
            advice = f"What to do: {RESUME} (traceback: {ERRORS} in the run folder)"
            self.end_track(track, f"{told(error)}. {advice}")

    def step(self, track: str, name: str, work: Callable[[], Any]) -> None:
        """Run the step `name` of `track`; if the track has ended, print why in one line instead.

        Calling the step that ended the track tries it again.
        """
        reason = self.not_run.get(track)
        if reason is not None and self._stopped_at.get(track) != name:
            print(f"{track_title(track)} does not run: {reason}")
            return
        self.not_run.pop(track, None)
        try:
            work()
        except Exception as error:
            error.add_note(f"in `{track}.{name}()`")
            self.fail_track(track, error)
        if track in self.not_run:
            self._stopped_at[track] = name

    def control(
        self, track: str, what: str, build: Callable[..., R], *arguments: Any, otherwise: Any, **options: Any
    ) -> R:
        """Return `build(...)`, or `otherwise` if it fails: a control must not cost a track its result."""
        try:
            return build(*arguments, **options)
        except Exception as error:
            self._keep_traceback(f"{track_title(track)}, {what}", error)
            self.warn(f"{track_title(track)}: {what} is left out, since it failed: {told(error)}")
            return otherwise

    def expect(self, what: str, *, expected: Any, got: Any, do: str) -> None:
        """Check that two values are equal.

        Raises:
            CheckError: says what differs and what to do; raised in a step, it ends that track.
        """
        if expected != got:
            raise CheckError(f"{what}: expected {_short(expected)}, got {_short(got)}. {do}")

    def each_once(self, what: str, items: Sequence[R], key: Callable[[R], str]) -> list[R]:
        """Return the first item of each key; further ones are left out with a warning that names them."""
        kept = {key(item): item for item in reversed(items)}
        first = [item for item in items if kept[key(item)] is item]
        again = [key(item) for item in items if kept[key(item)] is not item]
        self.leave_out(f"{what} whose name another one has", again)
        return first

    def leave_out(self, what: str, names: Iterable[str]) -> None:
        """Warn that the named items are left out; without any, do nothing."""
        if names := list(names):
            more = f" and {len(names) - NAMED_ITEMS} more" if len(names) > NAMED_ITEMS else ""
            self.warn(f"{len(names)} {what} left out: {'; '.join(names[:NAMED_ITEMS])}{more}")

    def fail_part(self, part: str, error: Exception) -> None:
        """Continue without one part of the report."""
        self._keep_traceback(part, error)
        self.missing[part] = told(error)
        self.warn(f"the report lacks its {part}, which failed: {told(error)}")

    def part(self, part: str, build: Callable[..., R], *arguments: Any, otherwise: Any, **options: Any) -> R:
        """Return `build(...)`, or `otherwise` if it fails; the report then says that `part` is missing."""
        self.missing.pop(part, None)
        try:
            return build(*arguments, **options)
        except Exception as error:
            self.fail_part(part, error)
            return otherwise

    def show(self, part: str, build: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Display what `build(...)` returns as a part of the report; skip a part that is missing already."""
        if part in self.missing and self._stopped_at.get(part) != build.__qualname__:
            print(f"{part} is missing: {self.missing[part]}")
            return
        shown = self.part(part, build, *arguments, otherwise=None, **options)
        if part in self.missing:
            self._stopped_at[part] = build.__qualname__
        elif shown is not None:
            display(shown)

    def draw(self, figure: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Show one figure of `helpers.report`; if it cannot be drawn, warn and continue.

        A figure that lacks its data is no failure: a sentence takes its place.
        """
        from helpers.report.figure_style import NothingToDraw, show

        try:
            show(figure(*arguments, **options))
        except NothingToDraw as nothing:
            print(f"No figure here. {str(nothing).rstrip('.')}.")
        except Exception as error:
            title = options.get("title") or options.get("what")
            name = getattr(figure, "__name__", "figure").replace("_", " ")
            name += f" ({title})" if title else ""
            self._keep_traceback(f"plot: {name}", error)
            self.warn(f"the plot “{name}” could not be drawn: {told(error)}")

    def _keep_traceback(self, where: str, error: Exception) -> None:
        """Append to `errors.txt`, or raise an error that concerns the whole run."""
        if concerns_whole_run(error):
            raise error
        if getattr(error, "explains_itself", False):
            return  # the message says all that a traceback would
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        with (self.folder / ERRORS).open("a", encoding="utf-8") as file:
            file.write(f"{now} {where}\n{''.join(traceback.format_exception(error))}\n")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else f"{text[:160]} … ({len(text)} characters)"
