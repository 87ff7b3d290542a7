"""Tests that patch, seed, write files or set the environment, seen from the program."""

import pytest

from tests.own_problems import Case, outcomes

CASES = {
    "pickles": Case(
        "import pickle\nimport pandas as pd\n\n\nclass P:\n    def __init__(self, x):\n        self.x = x\n\n    def __eq__(self, o):\n        return self.x == o.x\n\n\ndef f(path):\n    'd'\n",
        "    with open(path, 'wb') as s:\n        pickle.dump([{1: {2}}, P(3), pd.DataFrame({'a': [1]})], s)\n",
        "def check(candidate):\n    candidate('x.pkl')\n    plain, own, frame = pickle.load(open('x.pkl', 'rb'))\n    assert plain == {1: {2}} and own == P(3) and frame.equals(pd.DataFrame({'a': [1]}))\n",
        "    with open(path, 'wb') as s:\n        pickle.dump([{1: {2}}, P(4), pd.DataFrame({'a': [1]})], s)\n",
    ),
    "writes cwd": Case(
        "import json\ndef f(name, d):\n    'd'\n",
        "    with open(name, 'w') as s:\n        json.dump(d, s)\n    return name\n",
        "import os, json\ndef check(candidate):\n    p = candidate('a.json', {'x': 1})\n    assert os.path.exists(p) and json.load(open('a.json')) == {'x': 1}\n    os.remove('a.json')\n    assert not os.path.exists(p)\n",
        "    return name\n",
    ),
    "chdir": Case(
        "import os\ndef f():\n    'd'\n",
        "    return os.listdir('.')\n",
        "import os, tempfile\ndef check(candidate):\n    d = tempfile.mkdtemp()\n    open(os.path.join(d, 'q'), 'w').close()\n    old = os.getcwd()\n    os.chdir(d)\n    try:\n        assert candidate() == ['q']\n    finally:\n        os.chdir(old)\n",
        "    return []\n",
    ),
    "program makes temp": Case(
        "import tempfile, os\ndef f(t):\n    'd'\n",
        "    d = tempfile.mkdtemp()\n    p = os.path.join(d, 'o')\n    open(p, 'w').write(t)\n    return p\n",
        "import os, shutil\ndef check(candidate):\n    p = candidate('hi')\n    assert open(p).read() == 'hi'\n    shutil.rmtree(os.path.dirname(p))\n",
        "    return '/nothing'\n",
    ),
    "env patch": Case(
        "import os\ndef f():\n    'd'\n",
        "    return os.environ['TOKEN'], os.getenv('GONE', 'none')\n",
        "import os\nfrom unittest.mock import patch\nimport unittest\nclass T(unittest.TestCase):\n    @patch.dict(os.environ, {'TOKEN': 'abc'})\n    def test_a(self):\n        self.assertEqual(f(), ('abc', 'none'))\n    def test_b(self):\n        with self.assertRaises(KeyError):\n            f()\n    def test_c(self):\n        os.environ['TOKEN'] = 'z'; os.environ['GONE'] = 'g'\n        self.assertEqual(f(), ('z', 'g'))\n        del os.environ['TOKEN']\n        os.environ.pop('GONE')\n        self.assertRaises(KeyError, f)\n",
        "    return os.environ['TOKEN'], 'x'\n",
    ),
    "seeds": Case(
        "import random\nimport numpy as np\ndef f(n):\n    'd'\n",
        "    return [random.randint(0, 99) for _ in range(n)], np.random.rand(2).tolist(), random.choice('abc')\n",
        "import random\nimport numpy as np\ndef check(candidate):\n    random.seed(5); np.random.seed(7)\n    got = candidate(3)\n    random.seed(5); np.random.seed(7)\n    assert got == ([random.randint(0, 99) for _ in range(3)], np.random.rand(2).tolist(), random.choice('abc'))\n",
        "    return [1, 2, 3], [0, 0], 'a'\n",
    ),
    "requests mock": Case(
        "import requests\ndef f(url):\n    'd'\n",
        "    r = requests.get(url, timeout=3)\n    r.raise_for_status()\n    return r.json()['a']\n",
        "from unittest.mock import patch, Mock\nimport unittest\nclass T(unittest.TestCase):\n    @patch('requests.get')\n    def test_a(self, get):\n        get.return_value = Mock(status_code=200)\n        get.return_value.json.return_value = {'a': 5}\n        self.assertEqual(f('u'), 5)\n        get.assert_called_once_with('u', timeout=3)\n    @patch('requests.get', side_effect=requests.ConnectionError('x'))\n    def test_b(self, get):\n        with self.assertRaises(requests.ConnectionError):\n            f('u')\n",
        "    return 5\n",
    ),
    "mock_open": Case(
        "def f(p):\n    'd'\n",
        "    with open(p) as s:\n        return [line.strip() for line in s]\n",
        "from unittest.mock import patch, mock_open\ndef check(candidate):\n    with patch('builtins.open', mock_open(read_data='a\\nb\\n')) as m:\n        assert candidate('x') == ['a', 'b']\n    m.assert_called_once_with('x')\n",
        "    return []\n",
    ),
    "patch object class": Case(
        "import os.path\nfrom pathlib import Path\ndef f(p):\n    'd'\n",
        "    return Path(p).exists(), os.path.getsize(p)\n",
        "from unittest.mock import patch\nfrom pathlib import Path\nimport os\ndef check(candidate):\n    with patch.object(Path, 'exists', return_value=True), patch('os.path.getsize', return_value=9):\n        assert candidate('zz') == (True, 9)\n    assert not Path('zz').exists()\n",
        "    return False, 9\n",
    ),
    "stdin": Case(
        "import sys\ndef f():\n    'd'\n",
        "    return [int(input())] + [int(l) for l in sys.stdin]\n",
        "import sys, io\nfrom unittest.mock import patch\ndef check(candidate):\n    with patch('sys.stdin', io.StringIO('3\\n4\\n5\\n')):\n        assert candidate() == [3, 4, 5]\n",
        "    return [3]\n",
    ),
    "stdin assigned": Case(
        "import sys\ndef f():\n    'd'\n",
        "    return sys.stdin.read()\n",
        "import sys, io\ndef check(candidate):\n    old = sys.stdin\n    sys.stdin = io.StringIO('abc')\n    assert candidate() == 'abc'\n    sys.stdin = old\n",
        "    return ''\n",
    ),
    "input side effects": Case(
        "def f():\n    'd'\n",
        "    return int(input('a')) + int(input('b'))\n",
        "from unittest import mock\ndef check(candidate):\n    with mock.patch('builtins.input', side_effect=['3', '4']):\n        assert candidate() == 7\n",
        "    return 0\n",
    ),
    "builtins input assigned": Case(
        "def f():\n    'd'\n",
        "    return int(input('a'))\n",
        "import builtins\ndef check(candidate):\n    builtins.input = lambda *a: '7'\n    assert candidate() == 7\n",
        "    return 0\n",
    ),
    "sleep mock": Case(
        "import time\ndef f(n):\n    'd'\n",
        "    for _ in range(n):\n        time.sleep(100)\n    return n\n",
        "from unittest.mock import patch\ndef check(candidate):\n    with patch('time.sleep') as s:\n        assert candidate(3) == 3\n    assert s.call_count == 3\n",
        "    return n\n",
    ),
    "datetime mock": Case(
        "import datetime\ndef f():\n    'd'\n",
        "    return datetime.datetime.now().year\n",
        "from unittest.mock import patch\nimport datetime\ndef check(candidate):\n    with patch('datetime.datetime') as d:\n        d.now.return_value.year = 1999\n        assert candidate() == 1999\n",
        "    return 2026\n",
    ),
    "patch helper of prompt": Case(
        "def helper(x):\n    return x\ndef f(x):\n    'd'\n",
        "    return helper(x) + 1\n",
        "from unittest.mock import patch\ndef check(candidate):\n    with patch('__main__.helper', return_value=10):\n        assert candidate(1) == 11\n    assert candidate(1) == 2\n",
        "    return x + 1\n",
    ),
    "stdout capture": Case(
        "def f(n):\n    'd'\n",
        "    print('n', n)\n",
        "import io, sys\nfrom unittest.mock import patch\ndef check(candidate):\n    with patch('sys.stdout', new_callable=io.StringIO) as out:\n        candidate(3)\n    assert out.getvalue() == 'n 3\\n'\n    keep = sys.stdout; sys.stdout = io.StringIO()\n    candidate(4)\n    v = sys.stdout.getvalue(); sys.stdout = keep\n    assert v == 'n 4\\n'\n",
        "    pass\n",
    ),
    "warnings": Case(
        "import warnings\ndef f():\n    'd'\n",
        "    warnings.warn('old', DeprecationWarning)\n    return 1\n",
        "import warnings\ndef check(candidate):\n    with warnings.catch_warnings(record=True) as w:\n        warnings.simplefilter('always')\n        assert candidate() == 1\n    assert len(w) == 1 and issubclass(w[0].category, DeprecationWarning)\n",
        "    return 1\n",
    ),
    "logging": Case(
        "import logging\ndef f():\n    'd'\n",
        "    logging.getLogger('x').warning('hey %s', 3)\n    return 1\n",
        "import unittest\nclass T(unittest.TestCase):\n    def test_1(self):\n        with self.assertLogs('x') as cm:\n            f()\n        self.assertIn('hey 3', cm.output[0])\n",
        "    return 1\n",
    ),
    "frame csv": Case(
        "import pandas as pd\nimport numpy as np\ndef f(path):\n    'd'\n",
        "    return pd.read_csv(path)\n",
        "import unittest, os, tempfile\nclass TestCases(unittest.TestCase):\n    def setUp(self):\n        self.d = tempfile.mkdtemp()\n        self.p = os.path.join(self.d, 'x.csv')\n        pd.DataFrame({'a': [1, 2]}).to_csv(self.p, index=False)\n    def tearDown(self):\n        import shutil\n        shutil.rmtree(self.d)\n    def test_a(self):\n        df = f(self.p)\n        self.assertIsInstance(df, pd.DataFrame)\n        self.assertEqual(df['a'].tolist(), [1, 2])\n        self.assertEqual(df.shape, (2, 1))\n    def test_b(self):\n        with self.assertRaises(FileNotFoundError):\n            f('nothing.csv')\n",
        "    return pd.DataFrame({'a': [1]})\n",
    ),
    "paths arg": Case(
        "from pathlib import Path\ndef f(p):\n    'd'\n",
        "    return sorted(q.name for q in p.iterdir()), p / 'x', [p]\n",
        "import tempfile\ndef check(candidate):\n    with tempfile.TemporaryDirectory() as d:\n        d = Path(d)\n        (d / 'b').write_text('1'); (d / 'a').mkdir()\n        assert candidate(d) == (['a', 'b'], d / 'x', [d])\n",
        "    return [], p / 'x', [p]\n",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right_answers_pass_and_wrong_ones_fail(name):
    right, wrong = outcomes(CASES[name])
    assert right.passed, right
    assert wrong is None or wrong.status == "failed", wrong
