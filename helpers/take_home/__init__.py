"""Take a run's models home: write them in forms that other programs load, and prove that nothing changed.

`export_run` is the command. `measured_model` loads what was measured and sums base and adapter; `hf_folder`,
`gguf_weights` with `gguf_vocabulary` and `k_quants`, `gguf_adapter`, `ollama_model` and `onnx_embedder` write
one form each, and `model_card` the page beside it. `proof` puts the same questions (`engine_job`) to the
measured model and to an engine that has only the export: `llama_engine`, which runs `llama_library` in a
process of its own, or `transformers_engine`.
"""

__all__ = ["export_run"]
