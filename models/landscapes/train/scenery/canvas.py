"""A picture in the making: its coordinates, its light, and the ways to put something on it.

x runs from 0 (left) to 1 (right), y from 0 (top) to 1 (bottom); heights and sizes are in the same unit.
A *ridge* is a y for each column: everything below it belongs to the layer. `cover` remembers how much of the
sky is hidden at each pixel, so that the label of a sun behind a mountain can be corrected.
"""
import numpy as np

from scenes import PALETTES
from scenery.textures import F32, mix, rgb, smoothstep

HORIZON = {"sea": 0.58, "lake": 0.60, "mountains": 0.74, "snowy": 0.74, "desert": 0.60, "hills": 0.60,
           "forest": 0.72, "city": 0.76}
OPEN_HORIZON = ("sea", "desert")  # elsewhere a low sun is lifted above what stands on the horizon
BODY_X = {"left": 0.22, "center": 0.5, "right": 0.78}
HIDDEN = 0.3  # a sun or moon of which less is visible does not count as drawn
WHITE = np.ones(3, F32)


class Canvas:
    def __init__(self, scene, rng, size):
        self.scene, self.rng, self.size = scene, rng, size
        self.pixel = 1.0 / size
        self.xs = ((np.arange(size) + 0.5) / size).astype(F32)
        self.X, self.Y = np.meshgrid(self.xs, self.xs)
        self.time, self.weather, self.body = scene["time"], scene["weather"], scene["body"]
        self.night, self.day = self.time == "night", self.time == "noon"
        self.low_sun = self.time in ("sunset", "dawn")
        self.terrain = scene["terrain"]
        self._choose_light()
        self.horizon_y = HORIZON[self.terrain] + rng.uniform(-0.05, 0.05)
        self._place_body()
        self._derive_colours()
        self.image = None
        self.cover = np.zeros((size, size), F32)
        self.ground = self.horizon_y  # y at which a subject stands

    def _choose_light(self):
        palette = [rgb(code) for code in PALETTES[self.time, self.scene["palette"]]]
        shift = self.rng.normal(0, 0.018, 3).astype(F32)
        palette = [np.clip(c + shift + self.rng.normal(0, 0.008, 3), 0, 1).astype(F32) for c in palette]
        zenith, upper, lower, horizon, self.light, self.shade = palette
        if self.weather == "rain":
            grey = np.array([0.46, 0.5, 0.56], F32) * {"noon": 1.0, "dawn": 0.9, "sunset": 0.72, "night": 0.35}[self.time]
            zenith, upper, lower, horizon = [
                mix(c, grey * k, 0.72) for c, k in ((zenith, 0.62), (upper, 0.8), (lower, 1.0), (horizon, 1.2))]
            self.light = mix(self.light, grey * 1.3, 0.7)
        if self.weather == "fog":
            fog = mix(horizon, np.array([0.86, 0.87, 0.9], F32) * (0.42 if self.night else 1), 0.35)
            zenith, upper, lower, horizon = [
                mix(c, fog, k) for c, k in ((zenith, 0.25), (upper, 0.45), (lower, 0.6), (horizon, 0.5))]
        self.zenith, self.upper, self.lower, self.horizon = zenith, upper, lower, horizon

    def _place_body(self):
        rng = self.rng
        self.body_x = BODY_X[self.scene["place"]] + rng.uniform(-0.06, 0.06)
        if self.body == "none" and not self.night:
            self.body_x = rng.uniform(0.1, 0.9)  # the side that the light comes from
        if self.low_sun:
            self.body_y = self.horizon_y - rng.uniform(0.03, 0.2) - (0 if self.terrain in OPEN_HORIZON else 0.13)
            self.body_radius = rng.uniform(0.045, 0.075)
        elif self.day:
            self.body_y, self.body_radius = rng.uniform(0.1, 0.24), rng.uniform(0.035, 0.05)
        else:
            self.body_y, self.body_radius = rng.uniform(0.13, 0.3), rng.uniform(0.05, 0.085)
        self.body_distance = np.sqrt((self.X - self.body_x) ** 2 + (self.Y - self.body_y) ** 2)
        self.slant = np.clip((self.body_x - 0.5) * 2, -1, 1)  # -1: light from the left, 1: from the right
        self.lit_side = 1 if self.slant >= 0 else -1

    def _derive_colours(self):
        self.fog = 1.0 if self.weather == "fog" else 0.0
        self.haze_colour = mix(self.lower, self.horizon, 0.5) if self.night else self.horizon
        if self.low_sun and not self.fog:
            self.haze_colour = mix(mix(self.lower, self.upper, 0.45), self.horizon, 0.28)
        self.brightness = {"noon": 1.0, "dawn": 0.8, "sunset": 0.62, "night": 0.28}[self.time]
        if self.weather == "rain":
            self.brightness *= 0.75
        self.dark = rgb("2c4238") if self.day else mix(self.shade, np.zeros(3, F32), 0.35)
        self.water_tint = {"noon": rgb("0f5f8c"), "dawn": rgb("4a6a92"),
                           "sunset": mix(self.shade, rgb("24406a"), 0.5), "night": self.zenith * 0.8}[self.time]
        if self.scene["palette"] == "turquoise":
            self.water_tint = rgb("0b8a94")
        if self.weather == "rain":
            self.water_tint = mix(self.water_tint, self.horizon * 0.45, 0.6)

    def tone(self, colour):
        """The colour of a thing in full daylight -> its colour in this light."""
        colour = np.asarray(colour, F32)
        if self.day:
            return colour * self.brightness
        tint = mix(self.light, self.lower, 0.4)
        return (colour * tint * self.brightness * 1.15 + self.shade * 0.28).astype(F32)

    def haze(self, colour, amount):
        return mix(colour, self.haze_colour, amount)

    def chance(self, probability):
        return self.rng.random() < probability

    def offset(self):
        """A random place in a texture."""
        return self.rng.random() * 512

    # -------------------------------------------------------------- compositing

    def over(self, colour, mask):
        """mask [h, w] in 0..1"""
        self.image = mix(self.image, np.asarray(colour, F32), mask)

    def hide_sky(self, mask):
        np.maximum(self.cover, mask, out=self.cover)

    def layer(self, ridge, colour, softness=1.0):
        """Fills everything below the ridge."""
        mask = np.clip((self.Y - ridge[None]) / (self.pixel * softness) + 0.5, 0, 1)
        self.hide_sky(mask)
        self.over(colour, mask)

    def polygon(self, points, colour, alpha=1.0):
        """Convex, antialiased."""
        points = np.array(points, F32)
        following = np.roll(points, -1, 0)
        if np.sum(points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]) < 0:
            points = points[::-1]
        mask = np.ones((self.size, self.size), F32)
        for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0)):
            length = np.hypot(x1 - x0, y1 - y0) + 1e-9
            distance = ((self.X - x0) * (y0 - y1) + (self.Y - y0) * (x1 - x0)) / length
            mask = mask * np.clip(distance / self.pixel + 0.5, 0, 1)
        self.over(colour, mask * alpha)

    def body_visible(self):
        """Does the sun or moon show, behind what has been drawn so far?"""
        disc = self.body_distance < self.body_radius
        return ((1 - self.cover) * disc).sum() / disc.sum() >= HIDDEN

    def finish(self):
        """Vignette and a little contrast -> uint8 [h, w, 3]"""
        image = self.image * (1 - 0.32 * ((self.X - 0.5) ** 2 + (self.Y - 0.5) ** 2))[..., None]
        image = np.clip(image, 0, 1)
        image = mix(image, image * image * (3 - 2 * image), 0.22)
        return (image * 255 + 0.5).astype(np.uint8)

    def disc_edge(self, distance, radius):
        """1 inside a circle, 0 outside, soft over two pixels."""
        return smoothstep(radius + self.pixel, radius - self.pixel, distance)
