"""Which answer a case asks for decides whether a function's tests ask for more than one."""

import pytest

from helpers.data.tasks.expected_answers import SIZE, expected_answer


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("assert f(1) == [2]", "[2]"),
        ("assert [2] == f(1)", "[2]"),
        ("assert f(1) is None", "None"),
        ("assert nx.f(1) == 2", "2"),
        ("assert sorted(f(1)) == [2]", "[2]"),
        ("want = {1: 2}\nassert f(1) == want", "{1: 2}"),
        ("want = 1\nwant = 2\nassert want == f(1)", "2"),
        ("got = f(1)\ngot = list(got)\nassert got == [1]", "[1]"),
        ("got = f(1)\ngot = 3\nassert got == 3", ""),  # says nothing of the function
        ("assert f(1)", "True"),
        ("assert not f(1)", "False"),
        ("got = f(1)\nassert got", "True"),
        ("assert f(1) is True", "True"),
        ("assert len(f(1)) == 3", SIZE),
        ("assert 3 == len(f(1))", SIZE),
        ("G = f(1)\nassert G.number_of_nodes() == 3", SIZE),
        ("assert f(1) == f(2)", ""),
        ("assert nx.is_isomorphic(f(1), G)", ""),
        ("assert f(1) in (1, 2)", ""),
        ("assert 0 < f(1) < 2", ""),
        ("assert f(1) == 2 == f(3)", ""),
        ("f(1)", ""),
        ("", ""),
        ("assert (", ""),
    ],
)
def test_the_answer_that_a_case_expects(case: str, expected: str) -> None:
    assert expected_answer(case, "f") == expected
