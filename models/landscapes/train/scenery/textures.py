"""Noise and colour: what everything in a picture is made of.

Textures are 512×512, periodic, of zero mean and unit variance, made once by filtering white noise in the
frequency domain to a 1/f^β spectrum.
"""
import numpy as np

F32 = np.float32
SIDE = 512


def _spectrum(beta, seed):
    rng = np.random.default_rng(seed)
    frequency = np.fft.fftfreq(SIDE) * SIDE
    radius = np.hypot(frequency[None, :], frequency[:, None])
    radius[0, 0] = 1
    amplitude = radius ** -beta
    amplitude[0, 0] = 0
    texture = np.fft.ifft2(amplitude * np.exp(2j * np.pi * rng.random((SIDE, SIDE)))).real
    return ((texture - texture.mean()) / texture.std()).astype(F32)


CLOUD = [_spectrum(1.75, seed) for seed in range(6)]
FINE = [_spectrum(1.25, 50 + seed) for seed in range(4)]
ROUGH = [_spectrum(1.55, 80 + seed) for seed in range(4)]
WHITE = [np.random.default_rng(100 + seed).standard_normal((SIDE, SIDE)).astype(F32) for seed in range(2)]


def lookup(texture, u, v):
    """Bilinear and periodic; u, v in pixels of the texture."""
    u0, v0 = np.floor(u), np.floor(v)
    fu, fv = (u - u0).astype(F32), (v - v0).astype(F32)
    iu, iv = u0.astype(np.int32) & (SIDE - 1), v0.astype(np.int32) & (SIDE - 1)
    iu1, iv1 = (iu + 1) & (SIDE - 1), (iv + 1) & (SIDE - 1)
    top = texture[iv, iu] + (texture[iv, iu1] - texture[iv, iu]) * fu
    bottom = texture[iv1, iu] + (texture[iv1, iu1] - texture[iv1, iu]) * fu
    return top * (1 - fv) + bottom * fv


def noise_line(rng, x, frequency, octaves=6, gain=0.5, ridged=False):
    """Value noise along x, the sum of octaves; ridged: sharp peaks where a value crosses zero."""
    out, weight, total = np.zeros_like(x), 1.0, 0.0
    for octave in range(octaves):
        table = rng.standard_normal(1024).astype(F32)
        position = x * frequency * (2 ** octave) + rng.random() * 1000
        cell = np.floor(position).astype(int)
        f = position - cell
        f = f * f * (3 - 2 * f)
        value = table[cell % 1024] * (1 - f) + table[(cell + 1) % 1024] * f
        if ridged:
            value = 1 - 2 * np.abs(np.tanh(value * 0.8))
        out += weight * value
        total += weight
        weight *= gain
    return out / total


def smoothstep(low, high, x):
    """0 at low, 1 at high; low may be the larger."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def rgb(code):
    """'ff8000' -> [1, 0.5, 0]"""
    return np.array([int(code[i:i + 2], 16) for i in (0, 2, 4)], F32) / 255


def mix(a, b, t):
    """a at t = 0, b at t = 1; t may have a value for each pixel, a and b a colour."""
    if isinstance(t, np.ndarray) and t.ndim == 2:
        t = t[..., None]
    return a + (b - a) * t


def gradient(stops, t):
    """[(position, colour), ...] at each t, softened at the stops."""
    out = np.empty(t.shape + (3,), F32)
    out[...] = stops[0][1]
    for (p0, _), (p1, colour) in zip(stops, stops[1:]):
        w = np.clip((t - p0) / (p1 - p0), 0, 1)
        w = (w * w * (3 - 2 * w) * 0.6 + w * 0.4)[..., None]
        out = out * (1 - w) + colour * w
    return out
