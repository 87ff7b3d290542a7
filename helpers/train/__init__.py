"""Training: the loops, what they keep, and one module for each track.

`continued_pretraining` (Track A), `instruct` (Track B) and `averaging` over `contrastive` (Track C) train a
model from settings and data and leave a folder with weights and history. `trainer`, `contrastive` and
`from_scratch` hold the three loops, which share one policy for checkpoints (`checkpoints`), for losses that
are not finite (`errors`) and for running out of memory or float16 (`fallbacks`). Loading models, scoring
them and deciding what a run trains are the business of other packages: `helpers.models`, `helpers.eval` and
`helpers.tracks`.
"""

__all__ = [
    "averaging",
    "checkpoints",
    "continued_pretraining",
    "contrastive",
    "errors",
    "fallbacks",
    "from_scratch",
    "hard_negatives",
    "instruct",
    "packing",
    "step_log",
    "trainer",
]
