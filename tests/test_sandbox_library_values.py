"""Values of libraries that cross from the program to the tests: frames, tensors, paths, expressions."""

import pytest

from helpers.sandbox.api import Program, run_programs
from helpers.sandbox.type_values import type_from
from helpers.sandbox.wire import CodecError
from tests.own_problems import Case, outcomes

CASES = {
    "wrappers of collections": Case(
        "import collections, statistics\ndef f(x):\n    'd'\n",
        "    x.data['b'] = 2\n    return [collections.UserList([1]), collections.UserString('ab'), collections.ChainMap({'a': 1}, x), statistics.NormalDist(1, 2)]\n",
        "import collections, statistics\ndef check(candidate):\n    given = collections.UserDict(a=3)\n    xs, s, chain, normal = candidate(given)\n    assert given == {'a': 3, 'b': 2} and xs == [1] and s == 'ab' and normal == statistics.NormalDist(1, 2)\n    assert chain == collections.ChainMap({'a': 1}, given) and chain['b'] == 2\n",
        "    return [collections.UserList([2]), collections.UserString('ab'), collections.ChainMap({'a': 1}, x), statistics.NormalDist(1, 2)]\n",
    ),
    "frame groupby": Case(
        "import pandas as pd\nimport numpy as np\ndef f(df):\n    'd'\n",
        "    return df.groupby('k', as_index=False)['v'].sum()\n",
        "def check(candidate):\n    df = pd.DataFrame({'k': ['a','b','a'], 'v': [1,2,3]})\n    pd.testing.assert_frame_equal(candidate(df), pd.DataFrame({'k': ['a','b'], 'v': [4,2]}))\n    assert isinstance(candidate(df), pd.DataFrame)\n",
        "    return df.groupby('k', as_index=False)['v'].max()\n",
    ),
    "frame series": Case(
        "import pandas as pd\nimport numpy as np\ndef f(df):\n    'd'\n",
        "    return df['v'] * 2\n",
        "def check(candidate):\n    df = pd.DataFrame({'v': [1.5,np.nan]}, index=['p','q'])\n    pd.testing.assert_series_equal(candidate(df), pd.Series([3.0,np.nan], index=['p','q'], name='v'))\n    assert candidate(df).equals(df['v'] * 2)\n",
        "    return df['v'] * 3\n",
    ),
    "frame multiindex dates": Case(
        "import pandas as pd\nimport numpy as np\ndef f():\n    'd'\n",
        "    i = pd.MultiIndex.from_product([['a','b'], [1,2]], names=['x','y'])\n    return pd.DataFrame({'t': pd.date_range('2020', periods=4), 'c': pd.Categorical(['u','v','u','v'])}, index=i), pd.date_range('2020', periods=3, freq='D'), pd.Timestamp('2020-01-01', tz='UTC'), pd.Timedelta('1h'), pd.NaT, pd.Interval(0, 1), pd.Period('2020-01')\n",
        "def check(candidate):\n    d, r, t, delta, nat, iv, p = candidate()\n    i = pd.MultiIndex.from_product([['a','b'], [1,2]], names=['x','y'])\n    pd.testing.assert_frame_equal(d, pd.DataFrame({'t': pd.date_range('2020', periods=4), 'c': pd.Categorical(['u','v','u','v'])}, index=i))\n    pd.testing.assert_index_equal(r, pd.date_range('2020', periods=3, freq='D'))\n    assert r.freq == 'D' and t == pd.Timestamp('2020-01-01', tz='UTC') and t.tzinfo is not None and delta == pd.Timedelta('1h') and nat is pd.NaT and iv == pd.Interval(0, 1) and p == pd.Period('2020-01')\n",
        None,
    ),
    "frame mutated": Case(
        "import pandas as pd\nimport numpy as np\ndef f(df):\n    'd'\n",
        "    df['z'] = df['a'] + 1\n    df.drop(index=0, inplace=True)\n",
        "def check(candidate):\n    df = pd.DataFrame({'a': [1, 2]})\n    candidate(df)\n    assert list(df.columns) == ['a', 'z'] and df.loc[1, 'z'] == 3 and len(df) == 1\n",
        "    pass\n",
    ),
    "frame dtypes": Case(
        "import pandas as pd\nimport numpy as np\ndef f():\n    'd'\n",
        "    return pd.DataFrame({'i': pd.array([1, None], dtype='Int64'), 's': pd.Series(['a', None], dtype='string'), 'b': pd.array([True, None], dtype='boolean'), 'o': [[1], {'a': 2}], 't': pd.to_datetime(['2020', '2021']).tz_localize('Europe/Berlin'), 'f': np.float32([1, 2]), 'd': pd.to_timedelta([1, 2], 's'), 'p': pd.period_range('2020-01', periods=2, freq='M')})\n",
        "def check(candidate):\n    want = pd.DataFrame({'i': pd.array([1, None], dtype='Int64'), 's': pd.Series(['a', None], dtype='string'), 'b': pd.array([True, None], dtype='boolean'), 'o': [[1], {'a': 2}], 't': pd.to_datetime(['2020', '2021']).tz_localize('Europe/Berlin'), 'f': np.float32([1, 2]), 'd': pd.to_timedelta([1, 2], 's'), 'p': pd.period_range('2020-01', periods=2, freq='M')})\n    pd.testing.assert_frame_equal(candidate(), want)\n    assert candidate().dtypes.equals(want.dtypes)\n    assert candidate().dtypes['i'] == 'Int64'\n",
        "    return pd.DataFrame({'i': [1, 2]})\n",
    ),
    "frame in containers": Case(
        "import pandas as pd\nimport numpy as np\ndef f():\n    'd'\n",
        "    return {'a': pd.DataFrame({'x': [1]}), 'b': (pd.Series([1, 2]), pd.Index(['p']))}, pd.DataFrame(), pd.DataFrame(columns=['a', 'b'])\n",
        "def check(candidate):\n    r, e, c = candidate()\n    assert r['a'].equals(pd.DataFrame({'x': [1]})) and (r['b'][0] == pd.Series([1, 2])).all() and r['b'][1].tolist() == ['p']\n    assert e.empty and list(c.columns) == ['a', 'b'] and c.empty\n",
        "    return {'a': pd.DataFrame({'x': [2]}), 'b': (pd.Series([1, 2]), pd.Index(['p']))}, pd.DataFrame(), pd.DataFrame(columns=['a', 'b'])\n",
    ),
    "lib values": Case(
        "import uuid, ipaddress, pathlib, datetime, zoneinfo, array, types, http, decimal, fractions\ndef f():\n    'd'\n",
        "    return [uuid.UUID(int=5), ipaddress.ip_address('10.0.0.1'), ipaddress.ip_network('10.0.0.0/8'), pathlib.PurePosixPath('a/b'), datetime.datetime(2020,1,1,tzinfo=datetime.timezone.utc), datetime.datetime(2020,1,1,tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')), datetime.time(1, 2), array.array('i', [1, 2]), types.SimpleNamespace(a=1), http.HTTPStatus.OK, decimal.Decimal('1.10'), fractions.Fraction(1, 3), datetime.timezone(datetime.timedelta(hours=2)), types.MappingProxyType({'a': 1})]\n",
        "def check(candidate):\n    got = candidate()\n    want = [uuid.UUID(int=5), ipaddress.ip_address('10.0.0.1'), ipaddress.ip_network('10.0.0.0/8'), pathlib.PurePosixPath('a/b'), datetime.datetime(2020,1,1,tzinfo=datetime.timezone.utc), datetime.datetime(2020,1,1,tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')), datetime.time(1, 2), array.array('i', [1, 2]), types.SimpleNamespace(a=1), http.HTTPStatus.OK, decimal.Decimal('1.10'), fractions.Fraction(1, 3), datetime.timezone(datetime.timedelta(hours=2)), types.MappingProxyType({'a': 1})]\n    for a, b in zip(got, want):\n        assert type(a) is type(b) and a == b, (a, b)\n    assert got == want and got[9] is http.HTTPStatus.OK\n",
        "    return []\n",
    ),
    "type expressions": Case(
        "from typing import *\ndef f(kind):\n    'd'\n",
        "    return [Optional[kind], kind | None, list[kind], List[kind], Dict[str, kind], Literal['a', 1, None], Callable[[kind], str], Callable[..., kind], Callable[[], kind], Any, List, Tuple, Tuple[kind, ...], Union[kind, str], dict[str, list[kind]], Iterable[kind], Type[kind], tuple[()], Callable]\n",
        "def check(candidate):\n    assert candidate(int) == [Optional[int], int | None, list[int], List[int], Dict[str, int], Literal['a', 1, None], Callable[[int], str], Callable[..., int], Callable[[], int], Any, List, Tuple, Tuple[int, ...], Union[int, str], dict[str, list[int]], Iterable[int], Type[int], tuple[()], Callable]\n    assert get_args(candidate(str)[0]) == (str, type(None))\n",
        "    return [Optional[float]]\n",
    ),
    "torch": Case(
        "import torch\nfrom torch import nn\ndef f(n):\n    'd'\n",
        "    return torch.arange(n).float().reshape(-1, 2), torch.tensor(3), torch.tensor([True]), torch.zeros(0), torch.float16\n",
        "def check(candidate):\n    a, b, c, d, e = candidate(4)\n    assert torch.equal(a, torch.tensor([[0., 1.], [2., 3.]])) and b.item() == 3 and c.dtype is torch.bool and d.shape == (0,) and e is torch.float16\n    assert isinstance(a, torch.Tensor) and torch.allclose(a.sum(), torch.tensor(6.))\n",
        "    return torch.arange(n), torch.tensor(3), torch.tensor([True]), torch.zeros(0), torch.float16\n",
    ),
    "sympy": Case(
        "import sympy as sp\nx, y = sp.symbols('x y')\ndef f(e):\n    'd'\n",
        "    return sp.expand(e), sp.pi / 2, sp.Rational(1, 3), sp.Matrix([[x, 1]]), sp.sin(x) + sp.Function('g')(y), sp.Float('1.5'), sp.Symbol('p', positive=True), sp.oo\n",
        "def check(candidate):\n    a, b, c, d, e, g, p, o = candidate((x + 1) ** 2)\n    assert a == x**2 + 2*x + 1 and b == sp.pi / 2 and c == sp.Rational(1, 3) and d == sp.Matrix([[x, 1]]) and e == sp.sin(x) + sp.Function('g')(y) and g == 1.5 and p.is_positive and o is sp.oo\n",
        "    return e, sp.pi / 2, sp.Rational(1, 3), sp.Matrix([[x, 1]]), sp.sin(x), sp.Float('1.5'), sp.Symbol('p'), sp.oo\n",
    ),
    "numpy kinds": Case(
        "import numpy as np\ndef f():\n    'd'\n",
        "    return np.array([('a', 1)], dtype=[('n', 'U1'), ('v', 'i4')]), np.datetime64('2020-01-01'), np.array(['a'], dtype=object), np.dtype('f4'), np.ma.array([1, 2], mask=[0, 1]), np.random.default_rng(3).integers(5), np.matrix([[1, 2]]), np.float64\n",
        "def check(candidate):\n    s, d, o, t, m, r, mm, fl = candidate()\n    assert s['n'][0] == 'a' and s[0]['v'] == 1 and d == np.datetime64('2020-01-01') and o[0] == 'a' and t == np.float32 and r == np.random.default_rng(3).integers(5)\n    assert m.sum() == 1 and mm.shape == (1, 2) and fl is np.float64\n",
        None,
    ),
    "mbpp frames": Case(
        "",
        "import pandas as pd\ndef f(d):\n    return pd.DataFrame(d).sort_values('a')\n",
        "assert f({'a': [2, 1]}).equals(pd.DataFrame({'a': [1, 2]}, index=[1, 0]))\nassert list(f({'a': [2, 1]})['a']) == [1, 2]\npd.testing.assert_frame_equal(f({'a': [1]}), pd.DataFrame({'a': [1]}))\n",
        "import pandas as pd\ndef f(d):\n    return pd.DataFrame(d)\n",
    ),
    "frame apply callback": Case(
        "import pandas as pd\nfrom typing import Callable\ndef f(df, g):\n    'd'\n",
        "    return df.apply(g, axis=1)\n",
        "def check(candidate):\n    df = pd.DataFrame({'a': [1, 2], 'b': [3, 4]})\n    pd.testing.assert_series_equal(candidate(df, lambda r: r['a'] + r['b']), pd.Series([4, 6]))\n",
        "    return df['a']\n",
    ),
    "frame merge multi": Case(
        "import pandas as pd\ndef f(a, b):\n    'd'\n",
        "    return pd.merge(a, b, on='k', how='left').set_index('k').pivot_table(index='k', values='v', aggfunc='mean')\n",
        "import unittest\nclass TestCases(unittest.TestCase):\n    def test_1(self):\n        a = pd.DataFrame({'k': ['x','y'], 'u': [1, 2]})\n        b = pd.DataFrame({'k': ['x','x'], 'v': [3, 5]})\n        r = f(a, b)\n        self.assertEqual(r.loc['x', 'v'], 4.0)\n        self.assertTrue((r.index == ['x']).all())\n        self.assertEqual(r.index.name, 'k')\n        self.assertIsInstance(r.index, pd.Index)\n",
        "    return a\n",
    ),
    "frame group dict of frames": Case(
        "import pandas as pd\nimport numpy as np\ndef f(df):\n    'd'\n",
        "    return {k: g.reset_index(drop=True) for k, g in df.groupby('k')}, df.describe(), df.to_dict('records'), df.values, df.columns, df.isna().sum(), df['v'].value_counts(), df.T, df.corr(numeric_only=True)\n",
        "def check(candidate):\n    df = pd.DataFrame({'k': ['a', 'b', 'a'], 'v': [1.0, np.nan, 3.0]})\n    d, desc, rec, vals, cols, na, vc, t, corr = candidate(df)\n    assert set(d) == {'a', 'b'} and d['a'].equals(pd.DataFrame({'k': ['a', 'a'], 'v': [1.0, 3.0]}))\n    pd.testing.assert_frame_equal(desc, df.describe())\n    assert rec[0] == {'k': 'a', 'v': 1.0} and vals.shape == (3, 2) and list(cols) == ['k', 'v'] and na['v'] == 1\n    pd.testing.assert_series_equal(vc, df['v'].value_counts())\n    pd.testing.assert_frame_equal(t, df.T)\n    pd.testing.assert_frame_equal(corr, df.corr(numeric_only=True))\n",
        "    return {}\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right_answers_pass_and_wrong_ones_fail(name):
    right, wrong = outcomes(CASES[name])
    assert right.passed, right
    assert wrong is None or wrong.status == "failed", wrong


@pytest.mark.parametrize(
    "parts",
    [
        ("Union", (int, "str")), ("|", (1, 2)), ("alias", "list", (int,)), ("of", "get_type_hints", (int,)),
        ("of", "List", (object(),)), ("Literal", ([],)), ("name", "cast"), ("name", 1), ("of",), ("alias", int),
    ],
)  # fmt: skip
def test_a_type_expression_holds_nothing_but_types(parts):
    with pytest.raises(CodecError):
        type_from(*parts)


def test_text_columns_fit_into_a_small_limit():
    """Their library reserves much more than it uses unless it is told not to."""
    program = "import pandas as pd\ndef f(n):\n    return len(pd.Series(['ab'] * n))\n"
    (outcome,) = run_programs([Program(program, "assert f(3) == 3\n", "f", memory_mb=128)], workers=1)
    assert outcome.passed, outcome
