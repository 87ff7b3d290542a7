"""Messages between judge and program arrive whole, however the kernel cuts the stream."""

import json
import socket
import struct
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.sandbox.channel import ChannelClosed, Peer


def framed(*messages):
    texts = [json.dumps(message).encode() for message in messages]
    return b"".join(struct.pack("!I", len(text)) + text for text in texts)


def answers(stream, cuts, count):
    """Send `stream` in pieces that end at `cuts`; return what `count` requests get from it."""
    near, far = socket.socketpair()
    with near, far:
        peer = Peer(near.fileno(), lambda *about: None, trusting=True)
        ends = [*sorted(cuts), len(stream)]

        def send():
            for start, end in zip([0, *ends], ends, strict=False):
                far.sendall(stream[start:end])

        sender = threading.Thread(target=send)
        sender.start()
        got = [peer.request("call") for _ in range(count)]
        sender.join()
        far.shutdown(socket.SHUT_WR)
        with pytest.raises(ChannelClosed):
            peer.request("call")
    return got


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6), st.data())
def test_replies_may_arrive_in_pieces_or_together(texts, data):
    stream = framed(*(["=", text, None, None, 0] for text in texts))
    cuts = data.draw(st.sets(st.integers(1, len(stream) - 1), max_size=8))
    assert answers(stream, cuts, len(texts)) == texts


def test_a_reply_longer_than_one_read_arrives_whole():
    long = "é" * 3_000_000
    assert answers(framed(["=", long, None, None, 0], ["=", "next", None, None, 0]), [5, 10_000], 2) == [
        long,
        "next",
    ]


def test_every_reply_tells_how_many_threads_run():
    near, far = socket.socketpair()
    with near, far:
        peer = Peer(near.fileno(), lambda *about: None, trusting=False)
        for threads in (0, 2, 0):
            far.sendall(framed(["=", None, None, None, threads]))
            peer.request("call")
            assert peer.threads_there == threads
