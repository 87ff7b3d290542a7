"""Language models in GGUF files, the format of llama.cpp.

`sources` finds the file that a name stands for, `header` reads and checks it, and `convert` turns it once
into a folder with dense weights that transformers loads like any other.
"""

from helpers.models.gguf.sources import converted_folder

__all__ = ["converted_folder"]
