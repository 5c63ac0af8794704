"""What kernels that are written by hand share: the writer, register transposes, and how images are cut.

``writing`` is the tool; ``pixels``, ``planes`` and ``channels`` cut an image for vectors of pixels, of one
channel's pixels and of channels; ``winograd*`` are the transforms and their tiles; ``strides`` and
``strided_kernel`` read what a transposition does; ``rows`` reads softmax, normalisations and reductions,
which ``sweeps`` writes.
"""
