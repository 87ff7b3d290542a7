"""Steps of a track: a failure ends the track as `not_run`, the run goes on without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol

from helpers.tracks.session import Session

P = ParamSpec("P")


class Track(Protocol):
    """What the decorator needs to know of a track."""

    name: str  # as in metrics.json, "track_a"
    run: Session


def step(method: Callable[Concatenate[Any, P], Any]) -> Callable[Concatenate[Any, P], None]:
    """Run the method only while its track runs, and let its failure end the track (`Guards.step`)."""

    @functools.wraps(method)
    def guarded(track: Track, *args: P.args, **kwargs: P.kwargs) -> None:
        work = functools.partial(method, track, *args, **kwargs)
        track.run.guards.step(track.name, method.__name__, work)

    return guarded
