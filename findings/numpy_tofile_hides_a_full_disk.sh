#!/usr/bin/env bash
# numpy 2.4.6, Python 3.11: what a full disk raises depends on how an array is written.
#   array.tofile(path)              -> OSError without a number and without its words: "10000 requested and 0 written"
#   np.save(stream, array)          -> OSError 28, "No space left on device", as one expects
#   stream.write(array.tobytes())   -> OSError 28, as one expects
# So a program that looks at `error.errno` to tell a full disk from other faults misses it where a library writes
# with `tofile`, as the package gguf 0.19.0 does. The text counts array items, not bytes.
# Seen on Linux (/dev/full is a disk that is always full):
#   "tofile: None, 10000 requested and 0 written" / "save: 28" / "write: 28". Fails if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import numpy as np

array = np.ones(10_000)


def saved():
    with open("/dev/full", "wb") as stream:
        np.save(stream, array)


def written():
    with open("/dev/full", "wb", buffering=0) as stream:
        stream.write(array.tobytes())


def raised(act):
    try:
        act()
    except OSError as error:
        return error
    return None


tofile, save, write = (raised(act) for act in (lambda: array.tofile("/dev/full"), saved, written))
print(f"tofile: {tofile.errno}, {tofile}", f"save: {save.errno}", f"write: {write.errno}", sep="\n")
assert tofile.errno is None
assert str(tofile) == "10000 requested and 0 written"
assert (save.errno, write.errno) == (28, 28)
PY
