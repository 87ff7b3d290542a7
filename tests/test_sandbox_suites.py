"""The ways in which tests are written: pytest classes, parameter tables, coroutines."""

import pytest

from tests.own_problems import Case, outcomes

CASES = {
    "pytest class parametrize": Case(
        "def f(x):\n    'd'\n",
        "    return x + 1\n",
        "import pytest\nclass TestF:\n    def setup_method(self):\n        self.k = 1\n    def test_a(self):\n        assert f(self.k) == 2\n    @pytest.mark.parametrize('a,b', [(1, 2), (3, 4)])\n    def test_b(self, a, b):\n        assert f(a) == b\n@pytest.mark.parametrize('x', [1, pytest.param(2)])\n@pytest.mark.parametrize('y', [5])\ndef test_c(x, y):\n    assert f(x) == x + 1 and y == 5\n",
        "    return 2\n",
    ),
    "async test": Case(
        "import asyncio\nasync def f(x):\n    'd'\n",
        "    await asyncio.sleep(0)\n    return x + 1\n",
        "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n    async def test_a(self):\n        self.assertEqual(await f(1), 2)\nasync def test_b():\n    import asyncio\n    assert await asyncio.gather(f(1), f(2)) == [2, 3]\n",
        "    return 2\n",
    ),
    "async gen and cm": Case(
        "import asyncio\nfrom contextlib import asynccontextmanager\nasync def f(n):\n    'd'\n",
        "    for i in range(n):\n        yield i\n",
        "import asyncio\ndef check(candidate):\n    async def main():\n        return [x async for x in candidate(3)]\n    assert asyncio.run(main()) == [0, 1, 2]\n",
        "    for i in range(n):\n        yield 0\n",
    ),
    "async iteration over an object": Case(
        "class Down:\n    'd'\n",
        "    def __init__(self, n):\n        self.n = n\n    async def __aiter__(self):\n        while self.n:\n            yield self.n\n            self.n -= 1\n",
        "import asyncio\ndef check(candidate):\n    async def main():\n        return [x async for x in candidate(3)]\n    assert asyncio.run(main()) == [3, 2, 1]\n",
        "    def __init__(self, n):\n        self.n = n\n    async def __aiter__(self):\n        yield self.n\n",
        "Down",
    ),
    "unittest: left out, and expected to fail": Case(
        "def f(x):\n    'd'\n",
        "    return x + 1\n",
        "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(f(1), 2)\n    @unittest.skip('later')\n    def test_b(self):\n        self.fail()\n    @unittest.expectedFailure\n    def test_c(self):\n        self.assertEqual(f(1), 3)\n@unittest.skipIf(True, 'never here')\nclass U(unittest.TestCase):\n    def test_d(self):\n        self.fail()\n",
        "    import unittest\n    raise unittest.SkipTest('no')\n",
    ),
    "decorator": Case(
        "import functools\ndef twice(function):\n    'd'\n",
        "    @functools.wraps(function)\n    def inner(*args):\n        return function(function(*args))\n    return inner\n",
        "def check(candidate):\n    @candidate\n    def more(x):\n        'One more.'\n        return x + 1\n    assert more(1) == 3 and more.__name__ == 'more' and more.__doc__ == 'One more.'\n    assert more.__wrapped__(1) == 2\n",
        "    def inner(*args):\n        return function(function(*args))\n    return inner\n",
        "twice",
    ),
    "threads of the tests": Case(
        "import threading\nclass Counter:\n    'd'\n",
        "    def __init__(self):\n        self.value, self.lock = 0, threading.Lock()\n    def add(self, step):\n        with self.lock:\n            self.value += step()\n",
        "import threading\ndef check(candidate):\n    counter = candidate()\n    def work():\n        for _ in range(20):\n            counter.add(lambda: 2)\n    threads = [threading.Thread(target=work) for _ in range(4)]\n    for thread in threads:\n        thread.start()\n    for thread in threads:\n        thread.join()\n    assert counter.value == 160\n",
        "    def __init__(self):\n        self.value = 0\n    def add(self, step):\n        self.value = step()\n",
        "Counter",
    ),
    "rounding": Case(
        "class Money:\n    'd'\n",
        "    def __init__(self, x):\n        self.x = x\n    def __round__(self, n=0):\n        return Money(round(self.x, n))\n",
        "def check(candidate):\n    assert round(candidate(1.26), 1).x == 1.3 and round(candidate(1.26)).x == 1\n",
        "    def __init__(self, x):\n        self.x = x\n    def __round__(self, n=0):\n        return self\n",
        "Money",
    ),
    "async callback": Case(
        "async def f(g, x):\n    'd'\n",
        "    return await g(x) + 1\n",
        "import asyncio\nfrom unittest.mock import AsyncMock\ndef check(candidate):\n    async def g(x):\n        return x * 2\n    assert asyncio.run(candidate(g, 3)) == 7\n    m = AsyncMock(return_value=4)\n    assert asyncio.run(candidate(m, 1)) == 5\n    m.assert_awaited_once_with(1)\n",
        "    return 7\n",
    ),
    "module of program in tests": Case(
        "import numpy as np, math\nimport collections as c\ndef f(x):\n    'd'\n",
        "    return c.Counter(x)\n",
        "def check(candidate):\n    assert candidate('aab') == c.Counter('aab') and math.pi > 3 and np.allclose(1, 1)\n",
        "    return {}\n",
    ),
    "iscoroutinefunction": Case(
        "async def f(x):\n    'd'\n",
        "    return x\n",
        "import asyncio, inspect\ndef check(candidate):\n    assert inspect.iscoroutinefunction(candidate) and asyncio.iscoroutinefunction(candidate)\n    assert asyncio.run(candidate(2)) == 2\n",
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_right_answers_pass_and_wrong_ones_fail(name):
    right, wrong = outcomes(CASES[name])
    assert right.passed, right
    assert wrong is None or wrong.status == "failed", wrong
