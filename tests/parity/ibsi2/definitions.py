"""The filters of IBSI 2 a second time, written from their definitions and not from this software's code.

Kernels are whole arrays that are convolved by Fourier transform, turned as arrays, and cut off nowhere that matters;
Fourier transforms of images are products with matrices. Slow and plain on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pywt
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from tests.parity.ibsi2.phase1 import STEP_MM

Floats = NDArray[np.float64]
_PAD = {"zero": "constant", "nearest": "edge", "periodic": "wrap", "mirror": "symmetric"}
_ONES = {
    "L5": [1, 4, 6, 4, 1], "E5": [-1, -2, 0, 2, 1], "S5": [-1, 0, 2, 0, -1], "E3": [-1, 0, 1],
    "W5": [-1, 2, 0, -2, 1], "R5": [1, -4, 6, -4, 1],
}  # fmt: skip
"""Laws kernels as the manual prints them; each is divided by its length."""


def defined(text: str, image: Floats) -> Floats:
    """Filter an image by the definition of a filter that is named as in a rule."""
    kind, *given = text.split()
    options = dict(one.split("=") for one in given)
    boundary = _PAD[options.pop("boundary", "periodic")]
    respond: Callable[[Floats, str, dict[str, str]], Floats] = globals()[f"_{kind}"]
    return respond(image, boundary, options)


def _convolved(image: Floats, kernel: Floats, pad: str) -> Floats:
    edges = [(size // 2, size // 2) for size in kernel.shape]
    return np.asarray(fftconvolve(np.pad(image, edges, mode=pad), kernel, mode="valid"))  # type: ignore[call-overload]


def _mean(image: Floats, pad: str, options: dict[str, str]) -> Floats:
    size = int(options["size"])
    shape = (1, size, size) if options.get("reach") == "slice" else (size, size, size)
    return _convolved(image, np.full(shape, 1 / math.prod(shape)), pad)


def _log(image: Floats, pad: str, options: dict[str, str]) -> Floats:
    sigma, flat = float(options["sigma"]) / STEP_MM, options.get("reach") == "slice"
    reach = math.floor(4 * sigma + 0.5)
    axis, axes = np.arange(-reach, reach + 1.0), 2 if flat else 3
    squares = np.add.outer(np.add.outer(np.zeros(1) if flat else axis**2, axis**2), axis**2) / sigma**2
    gauss = np.exp(-squares / 2) / (math.sqrt(2 * math.pi) * sigma) ** axes
    kernel = -(axes - squares) * gauss / sigma**2
    if "riesz" not in options:
        return _convolved(image, kernel, pad)
    around = np.pad(image, reach, mode=pad)  # type: ignore[call-overload]
    middle = np.zeros(around.shape)
    middle[tuple(slice(0, size) for size in kernel.shape)] = kernel
    spectrum = _fourier(np.roll(middle, -reach, (0, 1, 2)))
    if "steer" in options:
        return _steered(_fourier(around) * spectrum, options)[(slice(reach, -reach),) * 3]
    spectrum = spectrum * _riesz(around.shape, options["riesz"])
    return _inverse(_fourier(around) * spectrum).real[(slice(reach, -reach),) * 3]


def _steered(spectrum: NDArray[np.complex128], options: dict[str, str]) -> Floats:
    """Turn the tensor of all transforms of one order into the frame of the voxel, one index after the other."""
    orders = [int(one) for one in options["riesz"].split(",")]

    def transformed(axes: tuple[int, ...]) -> Floats:
        """The transform along axes (0: x) that may repeat, without the factor of its order."""
        counts = [axes.count(axis) for axis in range(3)]
        factor = math.sqrt(math.factorial(len(axes)) / math.prod(math.factorial(one) for one in counts))
        return _inverse(spectrum * _riesz(spectrum.shape, ",".join(map(str, counts)))).real / factor

    gradient = np.stack([transformed((axis,)) for axis in range(3)], -1)
    sigma = float(options["steer"]) / STEP_MM
    line = np.arange(-math.floor(4 * sigma + 0.5), math.floor(4 * sigma + 0.5) + 1)
    bell = np.exp(-(line**2) / (2 * sigma**2))
    window = _product([bell / bell.sum()] * 3)
    tensor = np.empty((*gradient.shape, 3))
    for a, b in np.ndindex(3, 3):
        tensor[..., a, b] = _convolved(gradient[..., a] * gradient[..., b], window, "wrap")
    frame = np.linalg.svd(tensor)[0]  # columns by descending singular value, which are eigenvalues here
    frame = frame * np.where(np.einsum("...ad,...a->...d", frame, gradient) < 0, -1, 1)[..., None, :]
    total = sum(orders)
    whole = np.stack([transformed(axes) for axes in np.ndindex((3,) * total)], -1)
    whole = whole.reshape(*spectrum.shape, *(3,) * total)
    for direction in [at for at, order in enumerate(orders) for _ in range(order)]:
        whole = np.einsum("zyxa...,zyxa->zyx...", whole, frame[..., direction])
    factor = math.sqrt(math.factorial(total) / math.prod(math.factorial(one) for one in orders))
    return np.asarray(whole * factor)


def _laws(image: Floats, pad: str, options: dict[str, str]) -> Floats:
    text = options["kernels"]
    lines = [np.array(_ONES[text[at : at + 2]], float) for at in range(0, len(text), 2)]
    kernel = _product([one / np.linalg.norm(one) for one in lines])
    turns = _turns([kernel]) if "pooling" in options else [[kernel]]
    response = np.max([_convolved(image, turned, pad) for (turned,) in turns], axis=0)
    if "energy" not in options:
        return response
    size = 2 * int(options["energy"]) + 1
    shape = (size if len(lines) == 3 else 1, size, size)
    return _convolved(np.abs(response), np.full(shape, 1 / math.prod(shape)), pad)


def _gabor(image: Floats, pad: str, options: dict[str, str]) -> Floats:
    step = float(options.get("step", 0))
    # A wave and the wave in the opposite direction have one modulus.
    angles = np.arange(0, 180, step) if step else [float(options["theta"])]
    waves = [_wave(math.radians(angle), options) for angle in angles]
    axes = (0, 1, 2) if options.get("reach") == "volume" else (0,)
    total = np.zeros(image.shape)
    for axis in axes:
        for place, plane in enumerate(np.moveaxis(image, axis, 0)):
            moduli = [np.abs(one) for one in _planes(plane, waves, pad)]
            np.moveaxis(total, axis, 0)[place] += sum(moduli) / (len(axes) * len(waves))
    return total


def _planes(plane: Floats, waves: list[NDArray[np.complex128]], pad: str) -> Iterator[NDArray[np.complex128]]:
    """Convolve a plane with kernels of one size."""
    reach = waves[0].shape[0] // 2
    around = np.pad(plane, reach, mode=pad)  # type: ignore[call-overload]
    shape = [size + 2 * reach for size in around.shape]
    spectrum = np.fft.fft2(around, shape)
    for wave in waves:
        whole = np.fft.ifft2(spectrum * np.fft.fft2(wave, shape))
        yield whole[2 * reach : 2 * reach + plane.shape[0], 2 * reach : 2 * reach + plane.shape[1]]


def _wave(angle: float, options: dict[str, str]) -> NDArray[np.complex128]:
    sigma, wavelength = (float(options[name]) / STEP_MM for name in ("sigma", "wavelength"))
    gamma = float(options["gamma"])
    reach = math.ceil(6 * sigma * max(1, 1 / gamma))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    envelope = np.exp(-(along**2 + (gamma * across) ** 2) / (2 * sigma**2))
    return np.asarray(envelope * np.exp(2j * math.pi * along / wavelength))


def _wavelet(image: Floats, pad: str, options: dict[str, str]) -> Floats:
    wavelet, level = pywt.Wavelet(options["family"]), int(options.get("level", 1))
    even = [0.0] * (wavelet.dec_len % 2 == 0)  # makes the number of taps odd, so that there is a middle
    taps = {"L": [*wavelet.dec_lo, *even], "H": [*wavelet.dec_hi, *even]}
    letters = ["L" * len(options["kernels"])] * (level - 1) + [options["kernels"]]
    steps = [_product([_spread(taps[one], 2**at) for one in word]) for at, word in enumerate(letters)]
    turns = _turns(steps, distinct=False) if "pooling" in options else [steps]
    total = np.zeros(image.shape)
    for turned in turns:
        response = image
        for kernel in turned:
            response = _convolved(response, kernel, pad)
        total += response
    return total / len(turns)


def _spread(taps: list[float], step: int) -> Floats:
    """Put holes between the taps, as a decomposition without decimation does."""
    return np.array([taps[at // step] if at % step == 0 else 0.0 for at in range((len(taps) - 1) * step + 1)])


def _product(lines: list[Floats]) -> Floats:
    """Join kernels along x, y and z to one array (z, y, x)."""
    kernel = np.ones(())
    for line in lines:
        kernel = np.multiply.outer(line, kernel)
    return kernel if kernel.ndim == 3 else kernel[None]


def _turns(kernels: list[Floats], distinct: bool = True) -> list[list[Floats]]:
    """Turn kernels together by right angles: in all directions of space, or within slices if they have one."""
    planes = [(1, 2)] if kernels[0].shape[0] == 1 else [(0, 1), (0, 2), (1, 2)]
    # Numbered voxels tell turns apart that kernels with a symmetry do not.
    first = [*kernels, np.arange(8.0).reshape(2, 2, 2) if len(planes) == 3 else np.arange(4.0).reshape(1, 2, 2)]
    known, new = {_key(first): first}, [first]
    while new:
        turned = [[np.rot90(one, axes=plane) for one in all_] for all_ in new for plane in planes]
        new = [one for one in turned if _key(one) not in known]
        known |= {_key(one): one for one in new}
    found = [one[:-1] for one in known.values()]
    return list({_key(one): one for one in found}.values()) if distinct else found


def _key(arrays: Iterable[Floats]) -> tuple[object, ...]:
    return tuple((one.shape, one.tobytes()) for one in arrays)


def _simoncelli(image: Floats, pad: str, options: dict[str, str]) -> Floats:
    level = int(options.get("level", 1))
    length = np.sqrt(sum(one**2 for one in _frequencies(image.shape))) * 2 ** (level - 1)
    inside = (length >= 1 / 4) & (length <= 1)
    weights = np.zeros(image.shape, complex)
    weights[inside] = np.cos(math.pi / 2 * np.log(2 * length[inside]) / math.log(2))
    if "steer" in options:
        return _steered(_fourier(image) * weights, options)
    if "riesz" in options:
        weights *= _riesz(image.shape, options["riesz"])
    return _inverse(_fourier(image) * weights).real


def _riesz(shape: tuple[int, ...], text: str) -> NDArray[np.complex128]:
    orders = [int(one) for one in text.split(",")][::-1]
    total = sum(orders)
    factor = math.sqrt(math.factorial(total) / math.prod(math.factorial(one) for one in orders))
    axes = _frequencies(shape)
    length = np.sqrt(sum(one**2 for one in axes))
    length[length == 0] = np.inf
    weights = np.full(shape, (-1j) ** total * factor)
    for axis, order in zip(axes, orders, strict=True):
        weights *= (axis / length) ** order
    return weights


def _frequencies(shape: tuple[int, ...]) -> list[Floats]:
    """IBSI's frequencies of a centred grid, from -1 to 1, in the order of a Fourier transform."""
    return np.meshgrid(*(_line(size) for size in shape), indexing="ij")


def _line(size: int) -> Floats:
    line = [(2 * at - (size - 1)) / (size - 1) for at in range(size)]
    return np.array(line[size // 2 :] + line[: size // 2])


def _fourier(image: NDArray[np.generic], sign: int = -1) -> NDArray[np.complex128]:
    for axis, size in enumerate(image.shape):
        at = np.arange(size)
        matrix = np.exp(sign * 2j * math.pi * (np.outer(at, at) % size) / size)
        image = np.moveaxis(np.tensordot(matrix, image, axes=(1, axis)), 0, axis)
    return np.asarray(image, complex)


def _inverse(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
    return _fourier(spectrum, sign=1) / spectrum.size
