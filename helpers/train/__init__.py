"""Training: the loops, what they keep, and one module for each track.

`continued_pretraining` (Track A), `instruct` (Track B) and `averaged_embedder` over `contrastive` (Track C)
train a model from settings and data and leave a folder with weights and history. `trainer`, `contrastive`
and `from_scratch` hold the three loops, which share one policy for checkpoints (`checkpoints`), for losses
that are not finite and for running out of memory or of float16's range (`fallbacks`). Other packages load
models (`helpers.models`), score them (`helpers.eval`) and decide what a run trains (`helpers.tracks`).
"""

__all__ = [
    "averaged_embedder", "checkpoints", "continued_pretraining", "contrastive", "from_scratch",
    "instruct", "packing", "step_log", "trainer",
]  # fmt: skip
