#!/usr/bin/env bash
# torch 2.13.0 (CPU build, oneDNN inside), Linux x86-64 with avx512_bf16.
#
# Behaviour: a bfloat16 product with one weight matrix keeps about 0.6 MiB for every number of rows that it
# has not seen before, so that 600 lengths of a batch leave more than 200 MiB behind; a second pass over the
# same lengths leaves nothing more. The same products in float32 leave next to nothing.
# ONEDNN_PRIMITIVE_CACHE_CAPACITY=0 keeps nothing for reuse, and still more than 80 MiB stay.
# Expected: memory that depends on the shapes of weights, or a bound of a few MiB.
#
# Output seen (MiB more after the first and after the second pass):
#   bfloat16 first 367 again 0
#   float32 first 0 again 0
#   bfloat16, capacity 0 first 162 again 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
grep -q avx512_bf16 /proc/cpuinfo || { echo "needs a processor with avx512_bf16"; exit 0; }
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet "torch==2.13.0" "numpy<3"
cat > "$folder/rows.py" <<'PYTHON'
import ctypes
import sys

import torch
from torch.nn.functional import linear

torch.set_num_threads(1)
dtype = getattr(torch, sys.argv[1])
weight = torch.zeros(1536, 576, dtype=dtype)


def resident() -> float:
    ctypes.CDLL(None).malloc_trim(0)  # what is merely kept for reuse by malloc does not count
    line = next(line for line in open("/proc/self/status") if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def read(lengths: range) -> None:
    for rows in lengths:
        linear(torch.zeros(rows, 576, dtype=dtype), weight)


read(range(2000, 2008))
before = resident()
read(range(100, 700))
first = resident()
read(range(100, 700))
print(round(first - before), round(resident() - first))
PYTHON
run() { "$folder/env/bin/python" "$folder/rows.py" "$1"; }
read -r first again < <(run bfloat16)
read -r plain _ < <(run float32)
read -r unkept _ < <(ONEDNN_PRIMITIVE_CACHE_CAPACITY=0 run bfloat16)
echo "bfloat16 first $first again $again; float32 first $plain; bfloat16, capacity 0 first $unkept"
[ "$first" -gt 200 ] && [ "$again" -lt 40 ] && [ "$plain" -lt 20 ] && [ "$unkept" -gt 80 ]
