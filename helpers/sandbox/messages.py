"""Short messages between the caller and its warm processes: JSON, with file descriptors attached."""

from __future__ import annotations

import json
import os
import socket
import struct
from typing import Any


def send(control: socket.socket, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> None:
    """Send one length-prefixed JSON object and copies of `descriptors`."""
    text = json.dumps(message).encode()
    data = struct.pack("!I", len(text)) + text
    sent = socket.send_fds(control, [data], descriptors) if descriptors else 0
    if sent < len(data):
        control.sendall(data[sent:])


def receive(control: socket.socket, descriptors: int = 0) -> tuple[dict[str, Any], list[int]] | None:
    """Receive the next object and its `descriptors`; None if the other side hung up.

    The two sides take turns, so nothing follows a message before it is answered.

    Raises:
        OSError: if the descriptors did not arrive.
    """
    data, found, _, _ = socket.recv_fds(control, 2**16, descriptors)
    while 0 < len(data) < 4 or (data and len(data) < 4 + struct.unpack_from("!I", data)[0]):
        part = control.recv(2**16)
        data = data + part if part else b""
    if data and len(found) == descriptors:
        return json.loads(data[4:]), found
    for descriptor in found:
        os.close(descriptor)
    if data:
        raise OSError("descriptors did not arrive")
    return None
