"""The time left of a run, computed from invented times."""

from __future__ import annotations

import itertools

import pytest

from helpers.run.expected_seconds import EXPECTED, SectionSeconds
from helpers.run.time_left import TimeLeft

PLAN = (
    SectionSeconds("Setup", 10.0),
    SectionSeconds("A", 0.0, {"a/before": 100.0, "a/train": 300.0, "a/control": 300.0}),
    SectionSeconds("B", 20.0, {"b/data": 200.0}),
    SectionSeconds("Summary", 5.0),
)


def started(kept: tuple[str, ...] = ()) -> TimeLeft:
    estimate = TimeLeft(PLAN, kept)
    estimate.section("Setup", 0.0)
    return estimate


def test_the_time_left_starts_at_the_total_and_decreases() -> None:
    estimate = started()
    assert estimate.left(0.0) == 935.0
    assert estimate.left(4.0) == 931.0
    estimate.section("Setup", 4.0)  # reported twice, as by a heading after the start
    assert estimate.left(4.0) == 931.0


def test_a_found_step_takes_no_time() -> None:
    estimate = started()
    estimate.section("A", 0.0)
    estimate.found("a/train")
    assert estimate.left(0.0) == 625.0


def test_kept_steps_are_free_until_one_of_them_is_computed() -> None:
    estimate = started(kept=("a/before", "a/train", "a/control", "b/data"))
    estimate.section("A", 0.0)
    assert estimate.left(0.0) == 25.0
    estimate.found("a/before")
    assert estimate.left(0.0) == 25.0
    estimate.begins("a/train", 0.0)
    assert estimate.left(0.0) == 625.0  # and the control after it, which is in the same track
    estimate.found("a/control")
    assert estimate.left(0.0) == 325.0


def test_when_a_section_ends_its_remaining_steps_are_dropped() -> None:
    """A track without data reports none of its steps."""
    estimate = started()
    estimate.section("A", 0.0)
    estimate.section("B", 1.0)
    assert estimate.left(1.0) == 225.0


def test_finished_steps_set_the_speed_of_later_ones() -> None:
    estimate = started()
    estimate.section("A", 0.0)
    estimate.begins("a/before", 0.0)
    estimate.ended("a/before", 200.0)
    speed = estimate.speed(200.0)
    assert 1.5 < speed < 2.0  # twice as slow, after a tenth of the run
    assert estimate.left(200.0) == pytest.approx(speed * (300 + 300 + 200 + 20 + 5))


def test_a_running_step_that_takes_longer_slows_later_ones() -> None:
    estimate = started()
    estimate.section("A", 0.0)
    estimate.begins("a/train", 0.0)
    assert estimate.speed(250.0) == 1.0
    assert estimate.speed(600.0) > 1.7


def test_the_pace_of_a_bar_counts_if_it_implies_more_time() -> None:
    estimate = started()
    estimate.section("A", 0.0)
    estimate.begins("a/train", 0.0)
    rest = estimate.left(0.0) - 300.0
    for n, now in ((0, 0.0), (1, 40.0), (3, 60.0)):  # the first item compiles
        estimate.bar(1, n, 101, now)
    assert estimate.left(60.0) >= rest + 980.0  # 98 of 10 seconds each
    estimate.closed(1)
    assert estimate.left(60.0) == pytest.approx(rest + 240.0)


def test_a_stalled_bar_still_counts_its_other_items() -> None:
    estimate = started()
    estimate.section("A", 0.0)
    estimate.begins("x/unexpected", 0.0)
    rest = estimate.left(0.0)
    estimate.bar(1, 1, 11, 0.0)
    estimate.bar(1, 2, 11, 10.0)
    assert estimate.left(10.0) == rest + 90.0
    assert estimate.left(15.0) == rest + 85.0
    assert estimate.left(500.0) >= rest + 8 * 10.0


def test_the_bar_of_a_part_predicts_the_later_parts() -> None:
    estimate = started()
    estimate.begins("x/unexpected", 0.0)
    rest = estimate.left(0.0)
    estimate.bar(1, 1, 11, 0.0, [1, 3])
    estimate.bar(1, 6, 11, 50.0, [1, 3])
    assert estimate.left(50.0) == rest + 50.0 + 2 * 110.0


def test_an_overdue_step_still_has_time_left() -> None:
    estimate = started()
    estimate.section("B", 0.0)
    estimate.begins("b/data", 0.0)
    said = [estimate.left(now) for now in range(0, 2000, 10)]
    assert min(said) > 5.0 + 20.0
    assert all(one != other for one, other in itertools.pairwise(said))
    assert not any(estimate.nearly_done(now) for now in range(0, 2000, 10))


def test_the_time_left_is_never_below_what_is_known_to_remain() -> None:
    """Whatever happened before, steps not begun always count at the measured speed."""
    estimate = started()
    estimate.section("A", 0.0)
    now = 0.0
    for stage, took in (("a/before", 300.0), ("a/train", 1200.0)):
        estimate.begins(stage, now)
        for step in range(1, 11):
            waiting = (300.0 if stage == "a/train" else 600.0) + 225.0
            assert estimate.left(now + took * step / 10) >= waiting * estimate.speed(now + took * step / 10)
        now += took
        estimate.ended(stage, now)


def test_nearly_done_is_true_only_in_the_last_seconds() -> None:
    estimate = started()
    estimate.section("B", 0.0)
    assert not estimate.nearly_done(1e6)
    estimate.section("Summary", 0.0)
    assert not estimate.nearly_done(0.0)
    assert estimate.nearly_done(1.0)
    estimate.begins("report", 1.0)
    assert not estimate.nearly_done(1.0)


@pytest.mark.parametrize("profile", EXPECTED)
def test_the_estimate_of_a_profile_starts_at_its_total(profile) -> None:
    sections = EXPECTED[profile].sections
    assert TimeLeft(sections).left(0.0) == pytest.approx(sum(section.seconds for section in sections))
