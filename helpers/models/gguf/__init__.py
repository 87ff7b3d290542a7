"""Language models in GGUF files, the format of llama.cpp.

`sources` finds the file that a name stands for, `header` reads and checks it, `convert` turns it once into a
folder with dense weights that transformers loads like any other, `token_rules` builds its tokenizer, and
`store` is the cache of such folders.
"""

__all__ = ["header", "sources", "store", "token_rules"]
