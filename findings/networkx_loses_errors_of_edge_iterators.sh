#!/usr/bin/env bash
# networkx 3.6.1, Python 3.11: an error raised while a generator of edges is read is lost, and with it every edge.
#   nx.Graph(generator) where the generator yields (0, 1) and then raises ValueError -> an empty graph, no exception
#   nx.Graph() and then add_edges_from(the same generator)                          -> ValueError, as one expects
#   nx.Graph(list) with an edge that is no pair                                     -> NetworkXError, as one expects
# The constructor reads an iterator first as an edge list and swallows whatever that raises, then takes the same,
# now exhausted, iterator for an edge list of its own: that one is empty and valid. So a file whose last line cannot
# be parsed, read lazily, becomes a graph without nodes.
# Seen on Linux: "generator: 0 edges" / "add_edges_from: ValueError" / "list: NetworkXError". Fails if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check networkx==3.6.1
"$folder/venv/bin/python" - <<'PY'
import networkx as nx


def edges(lines):
    for line in lines:
        start, end = line.split()
        yield int(start), int(end)


def outcome(build):
    try:
        return f"{build().number_of_edges()} edges"
    except Exception as error:
        return type(error).__name__


def added():
    graph = nx.Graph()
    graph.add_edges_from(edges(lines))
    return graph


lines = ["0 1", "1 2", "2 three"]
seen = {
    "generator": outcome(lambda: nx.Graph(edges(lines))),
    "add_edges_from": outcome(added),
    "list": outcome(lambda: nx.Graph([(0, 1), (1, 2), (2,)])),
}
print(*(f"{name}: {what}" for name, what in seen.items()), sep="\n")
assert seen == {"generator": "0 edges", "add_edges_from": "ValueError", "list": "NetworkXError"}, seen
PY
