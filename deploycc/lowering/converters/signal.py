"""Fourier transforms: ``DFT`` and ``STFT``.

A short transform is a product with a constant matrix, which the schedules of matrix products run at
full speed; a long one is the routine ``routines/fourier.c``.  Both take their roots of unity
``exp(-2 pi i k / n)`` computed in double precision, those on the axes exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from deploycc.lowering.converters.sampling import agree, numbers
from deploycc.lowering.routines import FOLDER, call_routine
from deploycc.relax_graph import constant_value
from deploycc.tvm_api import OnnxOpConverter, relax, te

LONGEST_PRODUCT = 1 << 18
"""Elements of a matrix beyond which it is not worth its place in the package: 1 MiB of float32."""

_LARGEST_RADIX = 31
"""Prime factors up to this one are transformed directly (``LARGEST_RADIX`` of the routine)."""

Complex = npt.NDArray[np.complex128]


@dataclass(frozen=True)
class Transform:
    """A transform of ``length`` numbers along the last axis but one.

    ``samples`` of them are read and the rest is zero; ``mirrored``: they are the first half of a spectrum
    whose other half is their conjugate.  ``bins`` are written.  ``components``: 1 for real numbers, 2 for
    complex ones, of what is read and of what is ``made``.
    """

    length: int
    samples: int
    bins: int
    components: int
    made: int = 2
    inverse: bool = False
    mirrored: bool = False

    def matrix(self, window: npt.NDArray[Any] | None) -> npt.NDArray[np.float64]:
        """``[samples * components, bins * made]``: the transform of a row is its product with it."""
        roots = roots_of_unity(self.length)
        if self.inverse:
            roots = roots.conj() / self.length
        places = np.arange(self.samples)[:, None] * np.arange(self.bins)[None, :]
        weights = roots[places % self.length]
        if window is not None:
            weights = weights * np.asarray(window, np.float64)[: self.samples, None]
        # What 1 and i at each place become: the conjugate half of a spectrum adds its own share.
        of_one, of_i = weights, 1j * weights
        if self.mirrored:
            again = (2 * np.arange(self.samples) % self.length != 0)[:, None]
            other = roots[-places % self.length] * again
            of_one, of_i = weights + other, 1j * (weights - other)
        rows = np.stack([of_one, of_i][: self.components], axis=1)
        parts = np.stack([rows.real, rows.imag][: self.made], axis=-1)
        return parts.reshape(self.samples * self.components, self.bins * self.made)


def roots_of_unity(length: int) -> Complex:
    """``exp(-2 pi i k / length)`` for ``k < length``; real, imaginary and diagonal ones are exact."""
    turns = np.arange(length)
    angle = 2 * np.pi * turns / length
    real, imaginary = np.cos(angle), -np.sin(angle)
    real[4 * turns == length] = real[4 * turns == 3 * length] = 0
    imaginary[2 * turns == length] = 0
    return np.asarray(real + 1j * imaginary)


def fourier(
    bb: Any, signal: Any, form: Transform, window: Any = None, frames: tuple[int, int] = (1, 0)
) -> Any:
    """The transforms of a signal ``[rows, n, components]``: ``[rows, frames, bins, made]``.

    ``frames`` says how many stretches of a row there are, and how far apart.  ``window`` is multiplied with
    each stretch, and is a tensor of ``length`` numbers.
    """
    rows, extent, components = (int(value) for value in signal.ty.shape)
    dtype = str(signal.ty.dtype)
    count, step = frames
    known = None if window is None else constant_value(window)
    size = form.samples * components * form.bins * form.made
    if size <= LONGEST_PRODUCT and (window is None or known is not None):
        stretches = relax.op.reshape(_stretches(bb, signal, form, frames), [-1, form.samples * components])
        weights = relax.const(form.matrix(known).astype(dtype), dtype)
        made = bb.normalize(relax.op.matmul(bb.normalize(stretches), weights))
        return bb.normalize(relax.op.reshape(made, [rows, count, form.bins, form.made]))
    prime = _largest_prime(form.length)
    padded = 0 if prime <= _LARGEST_RADIX else 1 << (2 * form.length - 2).bit_length()
    tables = _tables(form.length, padded)
    transformed = padded or form.length
    results = call_routine(
        bb,
        FOLDER / "fourier.c",
        f"dcc_fourier_f{32 if dtype == 'float32' else 64}",
        [signal, signal if window is None else window, relax.const(tables, "float64")],
        [
            ((rows, count, form.bins, form.made), dtype),
            ((transformed * (6 if padded else 4),), "float64"),
        ],
        [
            *(rows, extent, count, step, min(form.samples, extent), components, form.length, form.bins),
            *(form.made, int(window is not None), int(form.inverse), int(form.mirrored), padded),
        ],
    )
    return bb.normalize(relax.TupleGetItem(bb.emit(results), 0))


def _stretches(bb: Any, signal: Any, form: Transform, frames: tuple[int, int]) -> Any:
    """``[rows, frames, samples, components]`` of a signal ``[rows, n, components]``."""
    rows, extent, components = (int(value) for value in signal.ty.shape)
    count, step = frames
    if count == 1 and form.samples == extent:
        return signal

    def take(data: Any) -> Any:
        shape = (rows, count, form.samples, components)
        return te.compute(shape, lambda r, f, i, c: data[r, f * step + i, c], name="frames")

    return bb.emit_te(take, signal)


def _largest_prime(length: int) -> int:
    largest, factor = 1, 2
    while factor * factor <= length:
        while length % factor == 0:
            largest, length = factor, length // factor
        factor += 1
    return max(largest, length)


def _tables(length: int, padded: int) -> npt.NDArray[np.float64]:
    """Roots of unity of the length transformed; with padding, the chirp and its conjugate's transform."""
    parts = [roots_of_unity(padded or length)]
    if padded:
        squares = np.arange(length, dtype=np.int64) ** 2 % (2 * length)
        chirp = roots_of_unity(2 * length)[squares]
        ring = np.zeros(padded, np.complex128)
        ring[:length] = chirp.conj()
        ring[padded - length + 1 :] = chirp[1:][::-1].conj()
        parts += [chirp, np.fft.fft(ring)]
    return np.concatenate(parts).view(np.float64)


def _in_wide_type(bb: Any, signal: Any) -> Any:
    """A float16 signal as float32: neither matrices nor sums of half precision would do."""
    return bb.normalize(relax.op.astype(signal, "float32")) if str(signal.ty.dtype) == "float16" else signal


class DFT(OnnxOpConverter):  # type: ignore[misc]
    """The discrete Fourier transform along any axis, padded or cut to ``dft_length``."""

    @classmethod
    def _impl_v17(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        return cls._along(bb, inputs, attr, int(attr.get("axis", 1)))

    @classmethod
    def _impl_v20(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        axis = constant_value(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
        return cls._along(bb, inputs, attr, -2 if axis is None else int(axis.item()))

    @classmethod
    def _along(cls, bb: Any, inputs: Any, attr: Any, axis: int) -> Any:
        shape = [int(extent) for extent in inputs[0].ty.shape]
        axis %= len(shape)
        given = constant_value(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else None
        onesided, inverse = bool(attr.get("onesided", 0)), bool(attr.get("inverse", 0))
        mirrored = onesided and inverse
        natural = 2 * (shape[axis] - 1) if mirrored else shape[axis]
        length = natural if given is None else int(given.item())
        if length < 1:
            raise ValueError(f"a transform of {length} numbers")
        form = Transform(
            length,
            min(shape[axis], length // 2 + 1 if mirrored else length),
            length // 2 + 1 if onesided and not inverse else length,
            shape[-1],
            made=1 if mirrored else 2,
            inverse=inverse,
            mirrored=mirrored,
        )
        order = [*(i for i in range(len(shape) - 1) if i != axis), axis, len(shape) - 1]
        signal = bb.normalize(relax.op.permute_dims(_in_wide_type(bb, inputs[0]), order))
        outer = [shape[i] for i in order[:-2]]
        rows = relax.op.reshape(signal, [math.prod(outer), shape[axis], shape[-1]])
        made = fourier(bb, bb.normalize(rows), form)
        made = bb.normalize(relax.op.reshape(made, [*outer, form.bins, form.made]))
        back = relax.op.permute_dims(made, [order.index(i) for i in range(len(shape))])
        return relax.op.astype(bb.normalize(back), str(inputs[0].ty.dtype))


class STFT(OnnxOpConverter):  # type: ignore[misc]
    """Transforms of frames of a signal ``[batch, n, 1 or 2]`` (or ``[batch, n]``), windowed."""

    @classmethod
    def _impl_v17(cls, bb: Any, inputs: Any, attr: Any, params: Any) -> Any:
        signal, step, window, frame = (*inputs, None, None)[:4]
        signal = _in_wide_type(bb, signal)
        shape = [int(extent) for extent in signal.ty.shape]
        rows = bb.normalize(relax.op.reshape(signal, [shape[0], shape[1], -1]))
        length = int(numbers(frame).item()) if frame is not None else int(window.ty.shape[0])
        hop = int(numbers(step).item())
        onesided = bool(attr.get("onesided", 1))
        components = int(rows.ty.shape[2])
        form = Transform(length, length, length // 2 + 1 if onesided else length, components)
        if window is not None:
            agree("the window", window, [length])
            window = _in_wide_type(bb, window)
        count = (shape[1] - length) // hop + 1
        if hop < 1 or count < 1:
            raise ValueError(f"a signal of {shape[1]} has no frame of {length} in steps of {hop}")
        made = fourier(bb, rows, form, window, (count, hop))
        return relax.op.astype(made, str(inputs[0].ty.dtype))


CONVERTERS: dict[str, type] = {"DFT": DFT, "STFT": STFT}
