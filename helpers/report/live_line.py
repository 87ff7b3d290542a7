"""The progress line of `python -m helpers run`: time elapsed, time left, current step.

Without a terminal the line is printed again every few seconds, even if the notebook sends nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from helpers.run.stage_names import stage_name
from helpers.run.time_left import TimeLeft

PLAIN_LINE_EVERY_S = 15.0


class LiveLine:
    """Display of sections, steps and progress bars while the notebook runs.

    Args:
        estimate: estimate of the time left; None for a notebook whose times are unknown.
        clock: returns seconds; replaced in tests.
    """

    def __init__(
        self,
        estimate: TimeLeft | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.section = "Setup"
        self._estimate, self._clock = estimate, clock
        self._start = self._section_start = self._last_line = clock()
        self._stage = ""
        self._bars: dict[int, str] = {}  # the most recently updated one is last
        self._lock = threading.RLock()  # shared by the timer and the notebook's messages
        self._ended = threading.Event()
        self._console = console or Console(highlight=False, soft_wrap=True)
        self._live = (
            Live(get_renderable=self._fitting, console=self._console, refresh_per_second=2)
            if self._console.is_terminal
            else None
        )
        if estimate:
            estimate.section(self.section, self._start)

    def __enter__(self) -> LiveLine:
        if self._live:
            self._live.start()
        else:
            self._print_line(self._clock())
            threading.Thread(target=self._keep_printing, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        if self._live:
            self._live.update(Text(""))
            self._live.stop()

    def enter(self, section: str) -> None:
        """Begin a new section: print the finished one's time, keep the line for the new one."""
        with self._lock:
            if section == self.section:
                return
            now = self._clock()
            if now - self._section_start > 1:
                self._console.print(f"  done    {self.section}  ({clock_text(now - self._section_start)})")
            self.section, self._section_start, self._stage = section, now, ""
            self._bars.clear()
            if self._estimate:
                self._estimate.section(section, now)
            if not self._live:
                self._print_line(now)

    def take(self, message: Mapping[str, Any]) -> None:
        """Process one message of the notebook (`helpers.machine.progress`)."""
        with self._lock:
            now = self._clock()
            event = message.get("event")
            if event == "bar":
                self._take_bar(message, now)
            elif event == "closed":
                self._bars.pop(message["bar"], None)
                if self._estimate:
                    self._estimate.closed(message["bar"])
            elif event in ("begins", "ended", "found", "failed"):
                self._take_stage(event, message["stage"], now)
            self.tick(now)

    def tick(self, now: float) -> None:
        """Print the line again if there is no terminal and the last one is old."""
        with self._lock:
            if not self._live and now - self._last_line >= PLAIN_LINE_EVERY_S:
                self._print_line(now)

    def text(self, now: float) -> str:
        """Return the current line."""
        with self._lock:
            elapsed = f"{clock_text(now - self._start)} elapsed"
            left = f", {self._left(now)}" if self._estimate else ""
            place = [self.section]
            if self._stage:
                place = [self.section.partition(":")[0], stage_name(self._stage)]
            place += list(self._bars.values())[-1:]
            return f"[{elapsed}{left}]  " + " · ".join(place)

    def _take_bar(self, message: Mapping[str, Any], now: float) -> None:
        number, n, total = message["bar"], message["n"], message["total"]
        share = f" {n / total:.0%}" if total else f" {n:g} {message['unit']}" if n else ""
        note = f" ({message['note']})" if message["note"] else ""
        self._bars.pop(number, None)
        self._bars[number] = message["what"] + share + note
        if self._estimate:
            self._estimate.bar(number, n, total, now, message["parts"])

    def _take_stage(self, event: str, stage: str, now: float) -> None:
        self._bars.clear()
        self._stage = stage if event == "begins" else ""
        if self._estimate is None:
            return
        if event == "begins":
            self._estimate.begins(stage, now)
        elif event == "ended":
            self._estimate.ended(stage, now)
        else:
            self._estimate.found(stage)

    def _left(self, now: float) -> str:
        if self._estimate.nearly_done(now):
            return "nearly done"
        return f"about {clock_text(max(self._estimate.left(now), 1.0))} left"

    def _fitting(self) -> Text:
        return Text(self.text(self._clock()), no_wrap=True, overflow="ellipsis")

    def _print_line(self, now: float) -> None:
        self._last_line = now
        self._console.print(Text(self.text(now)))

    def _keep_printing(self) -> None:
        while not self._ended.wait(1.0):
            self.tick(self._clock())


def clock_text(seconds: float) -> str:
    """Format seconds as minutes and seconds.

    >>> clock_text(318.2)
    '05:18'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes:02d}:{rest:02d}"
