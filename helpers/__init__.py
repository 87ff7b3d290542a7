"""Adapt a small code model to a repository, and measure honestly whether it helped.

Read in the order the data flows: `data` (corpus, functions, splits, pairs), `models`, `train`, `eval`,
`report`. `settings` defines a run, `tracks` carries it out, and `run` keeps its files.
"""

import logging
import warnings

# peft imports bitsandbytes, whose CPU back end warns on every command where it cannot get a faster 4-bit
# kernel from the hub. Nothing here needs that kernel.
logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(
    lambda record: "gemm_4bit_forward" not in str(record.msg)
)
# tqdm, which the libraries import for bars of their own, asks every notebook without widgets to install them.
warnings.filterwarnings("ignore", message="IProgress not found")
