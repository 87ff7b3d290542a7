"""Functions whose answers depend on what they must not depend on, and a few that do not."""

import datetime
import locale
import random
import sys
import time

from _helpers import Node, count_call, here, run_all

WEIGHTS = {"a": 0.1, "b": 0.2, "c": 0.3, "d": 1e16, "e": -1e16, "f": 0.7}


def popped_numbers(n):
    """Return the numbers of `n` nodes in the order in which a set gives them out."""
    nodes = {Node(number) for number in range(n)}
    return [nodes.pop().number for _ in range(n)]


def nodes_by_identity(n):
    """Return the numbers of `n` nodes, sorted by where they lie."""
    return [node.number for node in sorted((Node(number) for number in range(n)), key=id)]


def place_in_memory(n=3):
    """Return where a list lies, up to a power of two."""
    return id([n]) // 16 % 64


def described_node(n):
    """Return how a node is written."""
    return f"{n}: {Node(n)!r}"


def chosen_nodes(n):
    """Yield sets of one number each, from a set of nodes, as a search for components does."""
    waiting = {Node(number) for number in range(n)}
    while waiting:
        yield {waiting.pop().number}


def distinct_words(text):
    """Return the words of `text`, each once.

    >>> distinct_words("a")
    ['a']
    """
    return list(set(f"{text} one two three four".split()) if " " in text else {text})


def bucket_of(text):
    """Return the bucket that `text` falls into."""
    return hash(text) % 8


def joined_tags(tag_list):
    """Return the tags in one line."""
    return ",".join({f"tag{tag}" for tag in tag_list})


def current_year(offset=0):
    """Return the year, moved by `offset`."""
    return datetime.date.today().year + offset


def greeting(name="you"):
    """Greet `name` by the time of day."""
    return (
        f"good {'morning' if time.localtime().tm_hour < 12 else 'evening'}, {name} {time.localtime().tm_min}"
    )


def hour_of(seconds=0):
    """Return the local hour at a moment."""
    return time.localtime(seconds).tm_hour


def fast_enough(n):
    """Whether a loop takes less than a moment."""
    start = time.perf_counter()
    total = sum(range(n))
    return time.perf_counter() - start < 0.01 and total >= 0


def first_names(n):
    """Return the first names of this module."""
    return list(globals())[5 : 5 + n]


def functions_in_order(n=4):
    """Return the names of some functions in the order in which they were defined."""
    return [name for name, value in globals().items() if callable(value)][:n]


def total_weight(name_list=("a", "b", "c", "d", "e")):
    """Return the sum of the weights of distinct names."""
    return sum(WEIGHTS.get(str(name), 0.1) for name in {*map(str, name_list), *WEIGHTS})


def deepest_call(n=0):
    """Return how deep a function can call itself."""
    try:
        return deepest_call(n + 1)
    except RecursionError:
        return n


def room_left(n):
    """Return how many calls are allowed beyond `n`."""
    return sys.getrecursionlimit() - n


def answers_as_they_come(n):
    """Return the answers of `n` jobs as they come."""
    return run_all([lambda number=number: sum(range(1000 * (n - number))) and number for number in range(n)])


def written_number(n):
    """Write a number as people here do."""
    locale.setlocale(locale.LC_ALL, "")
    return locale.format_string("%.2f", n, grouping=True)


def preferred_encoding(n=1):
    """Return the encoding of text files."""
    return [locale.getlocale()[0]] * n


def folder_name(n=1):
    """Return the last letters of the folder this runs in."""
    return here()[-n:]


def calls_so_far(n=0):
    """Return how often this was called, and `n`."""
    return count_call() + n


def tossed(n):
    """Return `n` tosses of a coin."""
    return [random.randrange(2) for _ in range(4 * n)]


def checked_double(n):
    """Return twice `n`, which must be positive."""
    assert n > 2, "too small"
    return 2 * n


def sorted_words(text):
    """Return the distinct words of `text` in order.

    >>> sorted_words("b a b")
    ['a', 'b']
    """
    return sorted(set(text.split()))


def steps_to_one(n):
    """Return how many steps the Collatz rule takes from `n` to 1."""
    steps = 0
    while n > 1:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def forever(n):
    """Count without end."""
    while True:
        n += 1
