"""Curves from a loop in which nothing was written for us.

    from jupyter_aios.training.curves.installing import install

`install(rank)` makes the rank's `torch` tell: `capture` holds what was seen, `sites`, `sources` and
`loops` read the person's code around a call to `backward`, `values` reads numbers without waiting
for a GPU, `scaling`, `rates` and `batches` look after GradScaler, learning rates and data loaders,
`libraries` after loops that are not the person's, and `series` writes. docs/curves.md says what is
captured of which loop.
"""
