"""The sky: gradient and glow, stars, northern lights, sun or moon, clouds; and rain and fog over it all."""
import numpy as np

from scenery.textures import CLOUD, F32, WHITE, gradient, lookup, mix, noise_line, rgb, smoothstep


def draw_sky(canvas):
    c = canvas
    c.image = gradient([(0, c.zenith), (0.42, c.upper), (0.78, c.lower), (1, c.horizon)],
                       np.clip(c.Y / c.horizon_y, 0, 1))
    if c.body != "none" or c.low_sun:
        glow(c)
    if c.night and c.weather in ("stars", "aurora", "clouds"):
        stars(c)
    if c.weather == "aurora":
        aurora(c)
    {"sun": sun, "fullmoon": full_moon, "crescent": crescent, "none": lambda _: None}[c.body](c)
    if c.weather in ("clouds", "rain"):
        clouds(c)


def glow(c):
    strength = 1.0 if c.body != "none" else 0.35
    distance = c.body_distance
    if c.low_sun:
        c.over(c.light, np.exp(-distance / 0.22) * 0.75 * strength * 0.8)
        c.over(c.light, np.exp(-((c.Y - c.horizon_y) / 0.13) ** 2) * np.exp(-((c.X - c.body_x) / 0.5) ** 2)
               * 0.45 * strength)
    elif c.day:
        c.over([1, 1, 0.95], np.exp(-distance / 0.14) * 0.7 * strength)
    else:
        c.over(c.light, np.exp(-distance / 0.13) * 0.42 * strength)


def stars(c):
    rng, size = c.rng, c.size
    count = int(rng.integers(90, 170) if c.weather == "stars" else 60)
    field = np.zeros((size, size), F32)
    star_x, star_y = rng.random(count), rng.random(count) ** 1.2 * c.horizon_y
    brightness = rng.random(count) ** 2.5 * 0.95 + 0.18
    for x, y, b, radius in zip(star_x, star_y, brightness, 0.0042 + 0.0035 * brightness):
        x0, x1 = max(0, int((x - 3 * radius) * size)), min(size, int((x + 3 * radius) * size) + 2)
        y0, y1 = max(0, int((y - 3 * radius) * size)), min(size, int((y + 3 * radius) * size) + 2)
        square = (c.X[y0:y1, x0:x1] - x) ** 2 + (c.Y[y0:y1, x0:x1] - y) ** 2
        field[y0:y1, x0:x1] = np.maximum(field[y0:y1, x0:x1], b * np.exp(-square / (radius * 0.75) ** 2))
    if c.weather == "stars" and c.chance(0.55):
        milky_way(c)
    fade = smoothstep(c.horizon_y, c.horizon_y - 0.25, c.Y)
    if c.body != "none":
        fade = fade * smoothstep(c.body_radius * 1.1, c.body_radius * 2.2, c.body_distance)
    c.image = c.image + (field * fade)[..., None] * np.array([1, 0.98, 0.94], F32)


def milky_way(c):
    angle, centre = c.rng.uniform(-0.9, 0.9), c.rng.uniform(0.3, 0.7)
    across = (c.X - centre) * np.cos(angle) + (c.Y - 0.25) * np.sin(angle)
    noise = lookup(CLOUD[0], c.X * 150 + c.offset(), c.Y * 150 + c.offset())
    band = np.clip(np.exp(-((across + 0.03 * noise) / 0.11) ** 2) * (0.55 + 0.3 * noise), 0, 1)
    colour = mix(c.light, np.array([0.75, 0.6, 0.9], F32), 0.5)
    fade = smoothstep(c.horizon_y, c.horizon_y * 0.45, c.Y)
    c.image = c.image + band[..., None] * colour * 0.26 * fade[..., None]


def aurora(c):
    rng, xs = c.rng, c.xs
    green, cyan, violet = rgb("3dffa0"), rgb("4ad8ff"), rgb("b06bff")
    glow_sum = np.zeros_like(c.image)
    for i in range(3):
        foot = c.horizon_y * (0.5 + 0.16 * i + rng.uniform(-0.1, 0.08)) + 0.08 * noise_line(rng, xs, 2.2, 3) \
            + rng.uniform(-0.18, 0.18) * (xs - 0.5)
        height = rng.uniform(0.2, 0.34) * (1 + 0.35 * noise_line(rng, xs, 5, 3))
        stripes = 0.62 + 0.38 * noise_line(rng, xs, 22, 3)
        d = (foot[None] - c.Y) / height[None]
        curtain = np.where(d > 0, np.exp(-d * 2.2) * smoothstep(0, 0.1, d), 0) * np.clip(stripes, 0, 1.2)[None]
        base = mix(green, (green, cyan)[int(rng.integers(0, 2))], 0.4)
        colour = mix(base, violet, np.clip(d, 0, 1))
        glow_sum += curtain[..., None] * colour * rng.uniform(0.55, 0.9)
    c.image = c.image + glow_sum * 0.85


def halo(c, disc, width, strength):
    fall = np.exp(-np.maximum(c.body_distance - c.body_radius, 0) / width)
    c.image = c.image + c.light * (fall * (1 - disc) * strength)[..., None]


def sun(c):
    disc = c.disc_edge(c.body_distance, c.body_radius)
    colour = mix(c.light, np.array([1, 1, 0.92], F32), 0.5 if c.time == "sunset" else 0.72)
    if c.time == "sunset":
        colour = mix(colour, rgb("ffdf90"), 0.35)
    c.over(colour, disc * (0.7 if c.weather == "fog" else 0.95))
    halo(c, disc, 0.035, 0.3)


def full_moon(c):
    disc = c.disc_edge(c.body_distance, c.body_radius)
    scale = 260 / (c.body_radius / 0.07)
    craters = lookup(CLOUD[1], c.X * scale + c.offset(), c.Y * scale + c.offset())
    colour = mix(np.array([0.98, 0.96, 0.88], F32), np.array([0.74, 0.75, 0.78], F32),
                 smoothstep(-0.2, 1.1, craters) * 0.75)
    c.over(colour, disc)
    halo(c, disc, 0.04, 0.22)


def crescent(c):
    c.body_radius *= 0.85
    radius = c.body_radius
    bite = np.sqrt((c.X - c.body_x - radius * 0.55) ** 2 + (c.Y - c.body_y + radius * 0.18) ** 2)
    c.over([1, 0.97, 0.85], c.disc_edge(c.body_distance, radius) * (1 - c.disc_edge(bite, radius * 0.92)))


def clouds(c):
    rng = c.rng
    cover = rng.uniform(-0.05, 0.3) if c.weather == "clouds" else rng.uniform(0.7, 1.0)
    long = rng.random() < 0.5
    texture, frequency = CLOUD[int(rng.integers(0, 6))], rng.uniform(110, 170)
    nearness = 0.35 + 0.9 * np.clip((c.horizon_y - c.Y) / c.horizon_y, 0, 1)
    u0, v0 = rng.random() * 512, rng.random() * 512
    u = (c.X - 0.5) / nearness * frequency * (0.55 if long else 1.0) + u0
    v = -1 / nearness * frequency * 1.25 * (2.0 if long else 1.35) * 0.55 + v0
    thickness = lookup(texture, u, v)
    to_light_x, to_light_y = c.body_x - c.X, c.body_y - c.Y
    to_light = np.sqrt(to_light_x ** 2 + to_light_y ** 2) + 0.05
    toward = lookup(texture, u + to_light_x / to_light * 5, v + to_light_y / to_light * 5)
    density = smoothstep(0.1, 1.5, thickness + cover) * smoothstep(c.horizon_y + 0.02, c.horizon_y - 0.12, c.Y)
    lit = np.clip(0.5 + (thickness - toward) * 1.1, 0, 1)
    near_light = np.exp(-to_light / 0.45)
    if c.weather == "rain":
        colour = mix(c.zenith * 0.72, c.horizon * 0.95, lit)
    elif c.day:
        colour = mix(mix(c.upper, c.shade, 0.25) * 0.55 + 0.42, np.ones(3, F32), lit)
    elif c.night:
        colour = mix(c.zenith * 0.8, mix(c.lower, c.light, 0.55), lit * (0.25 + 0.75 * near_light))
    else:
        colour = mix(mix(c.upper, c.shade, 0.45), mix(c.lower, c.light, 0.7),
                     np.clip(lit * 0.75 + near_light * 0.45, 0, 1))
    c.over(colour, density * 0.92)


def fog_bank(c):
    """Lies on the horizon, over the terrain."""
    noise = lookup(CLOUD[5], c.X * 60 + c.offset(), c.Y * 170 + c.offset())
    c.over(c.haze_colour, np.clip(np.exp(-((c.Y - c.horizon_y - 0.02) / 0.13) ** 2) * (0.55 + 0.25 * noise), 0, 0.85))


def rain(c):
    streaks = lookup(WHITE[1], c.X * 128 + c.Y * 26 + c.offset(), c.Y * 9 - c.X * 2 + c.offset())
    c.image = c.image + (smoothstep(1.0, 2.6, streaks) * 0.13)[..., None]
    c.image = mix(c.image, c.horizon, 0.12)
