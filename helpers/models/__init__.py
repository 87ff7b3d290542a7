"""Models: load them, adapt them, run them, and know their size before loading.

`causal_lm` and `embedder` load language models and sentence embedders from a hub name, a folder or an
installed package, and `gguf` converts GGUF files; `generation` samples text, through `text_writer` and
`ragged_cache`; `conversations` writes prompts of several turns; `token_loss`, `structure` and
`cheaper_forms` compute losses and gradients with less memory and time, `packed_decoder` whole steps of
training, `reading_decoder` and `bfloat16_products` what large models read and write on a CPU (`reading`),
`target_scores` how likely they find a text; `tokens` turns text into tokens and back; `fitness` tries whether
a model fits what a run does with it; `shapes` and `footprint` tell parameters and bytes without loading
anything. `tiny_code_lm` is the embedded base model. Training loops (`helpers.train`), metrics
(`helpers.eval`) and the training of the embedded model (`helpers.base_model`) are not here.
"""

__all__ = [
    "bfloat16_products", "causal_lm", "cheaper_forms", "conversations", "embedder", "fitness", "footprint",
    "generation", "gguf", "hub", "infilling", "packed_decoder", "prompt_lookup", "ragged_cache", "reading",
    "saved_tokenizer", "shapes", "structure", "target_scores", "text_writer", "token_borders",
    "token_loss", "tokens",
]  # fmt: skip
