"""How long a run still takes: its remaining steps at the speed measured so far.

Everything here is arithmetic on the times it is given, so tests need not wait.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from helpers.run.expected_seconds import SectionSeconds

OVERDUE_SHARE = 0.1  # the time left of anything running is at least this share of the time spent on it
EVIDENCE = 0.05  # share of the whole run that must be measured before its speed counts half
LAST_SECONDS = 5.0


@dataclass
class _Bar:
    """A bar's last reported state; `first` is its state after the first item."""

    n: float
    total: float | None
    at: float
    later: float  # number of equal parts that follow the one the bar belongs to
    first: tuple[float, float] | None = None  # n, time

    def left(self, now: float) -> float:
        """Return the seconds left that the bar's own pace implies.

        If the current item takes longer than those before, the later ones still take the mean.
        """
        if not self.total or self.first is None or self.n <= self.first[0]:
            return 0.0
        done, since = self.n - self.first[0], self.at - self.first[1]
        rest = max(self.total - self.n, 0.0)
        paced = since / done * rest - (now - self.at)
        stalled = (now - self.first[1]) / (done + 1) * max(rest - 1, 0.0)
        return max(paced, stalled, 0.0) + self.later * since / done * self.total


class TimeLeft:
    """Estimate of the time left, updated by a run's events; times are seconds of any one clock.

    Args:
        sections: expected seconds of every section and step.
        kept: steps that are finished in the run folder or beside it. They count as free until one of
            them is computed after all.
    """

    def __init__(self, sections: Sequence[SectionSeconds], kept: Collection[str] = ()) -> None:
        self._outside = {section.heading: section.outside_stages for section in sections}
        self._pending = {section.heading: dict(section.stages) for section in sections}
        self._kept = set(kept)
        self._evidence = EVIDENCE * sum(section.seconds for section in sections)
        self._measured = self._measured_expected = 0.0
        self._section = ""
        self._section_start = self._in_stages = 0.0
        self._stage: tuple[str, float, float] | None = None  # name, expected, start
        self._bars: dict[int, _Bar] = {}

    def section(self, heading: str, now: float) -> None:
        """Note that section `heading` begins; everything before it is done, whether reported or not."""
        if heading == self._section:
            return
        order = list(self._outside)
        for before in order[: order.index(heading)] if heading in order else ():
            del self._outside[before], self._pending[before]
        self._section, self._section_start, self._in_stages = heading, now, 0.0
        self._stage = None
        self._bars.clear()

    def begins(self, stage: str, now: float) -> None:
        """Note that `stage` is being computed."""
        if stage in self._kept:  # later steps of its track most likely depend on it
            track = stage.partition("/")[0]
            self._kept = {one for one in self._kept if one.partition("/")[0] != track}
        self._stage = (stage, self._take(stage), now)
        self._bars.clear()

    def found(self, stage: str) -> None:
        """Note that `stage` was computed before."""
        self._take(stage)

    def ended(self, stage: str, now: float) -> None:
        """Note that `stage` is finished; its time updates the measured speed."""
        if self._stage is None:
            return
        _, expected, start = self._stage
        if expected:
            self._measured += now - start
            self._measured_expected += expected
        self._in_stages += now - start
        self._stage = None
        self._bars.clear()

    def bar(
        self, number: int, n: float, total: float | None, now: float, parts: Sequence[int] | None = None
    ) -> None:
        """Update one bar; `parts` is (number, total) if it belongs to one of several equal parts."""
        later = float(parts[1] - parts[0]) if parts else 0.0
        bar = self._bars.setdefault(number, _Bar(n, total, now, later))
        bar.n, bar.total, bar.at = n, total, now
        if bar.first is None and n > 0:
            bar.first = (n, now)

    def closed(self, number: int) -> None:
        """Note that a bar is done."""
        self._bars.pop(number, None)

    def speed(self, now: float) -> float:
        """Return measured seconds per expected second; close to 1 while little is measured.

        A step that takes longer than expected, or will by its bar, counts before it ends, in proportion
        to how much of it is done.
        """
        if not self._evidence:
            return 1.0
        measured, expected = self._measured + self._evidence, self._measured_expected + self._evidence
        if self._stage and self._stage[1]:
            spent = now - self._stage[2]
            implied = spent + self._bars_left(now)
            if implied > self._stage[1] * measured / expected:
                measured, expected = measured + spent, expected + self._stage[1] * spent / implied
        return measured / expected

    def left(self, now: float) -> float:
        """Return the seconds until the last section ends."""
        speed = self.speed(now)
        counted = sum(
            seconds
            for stages in self._pending.values()
            for stage, seconds in stages.items()
            if stage not in self._kept
        )
        later = sum(seconds for heading, seconds in self._outside.items() if heading != self._section)
        return speed * (counted + later) + self._left_here(speed, now)

    def nearly_done(self, now: float) -> bool:
        """Return whether only the last seconds of the last section are left."""
        others = any(heading != self._section for heading in self._outside)
        pending = any(stage not in self._kept for stages in self._pending.values() for stage in stages)
        return not (others or pending or self._stage) and self.left(now) < LAST_SECONDS

    def _left_here(self, speed: float, now: float) -> float:
        """Return the seconds left of the running step and of its section's work outside steps."""
        bars = self._bars_left(now)
        outside = speed * self._outside.get(self._section, 0.0)
        if self._stage is None:
            return _remaining(outside, now - self._section_start - self._in_stages, bars)
        _, expected, start = self._stage
        spent = start - self._section_start - self._in_stages
        return _remaining(speed * expected, now - start, bars) + max(outside - spent, 0.0)

    def _bars_left(self, now: float) -> float:
        return max((bar.left(now) for bar in self._bars.values()), default=0.0)

    def _take(self, stage: str) -> float:
        """Remove `stage` from the pending ones; return its expected seconds, 0 if it was not expected."""
        self._kept.discard(stage)
        return next((s.pop(stage) for s in self._pending.values() if stage in s), 0.0)


def _remaining(expected: float, spent: float, bars: float) -> float:
    return max(expected - spent, bars, OVERDUE_SHARE * spent)
