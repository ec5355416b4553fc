"""The eight terrains. Each draws itself below the sky and sets `canvas.ground`, where subjects stand."""
import numpy as np

from scenery.canvas import WHITE as WHITE_COLOUR
from scenery.textures import CLOUD, F32, FINE, ROUGH, WHITE, lookup, mix, noise_line, rgb, smoothstep


def draw_terrain(canvas):
    {"sea": sea, "lake": lake, "mountains": green_mountains, "snowy": snowy_mountains, "desert": desert,
     "hills": hills, "forest": forest, "city": city}[canvas.terrain](canvas)


# ------------------------------------------------------------------ parts that several terrains share

def mountain_range(c, base_y, height, ranks, snow):
    """Ranks of ridges, far to near: ridged noise for the outline, a sheared texture for facets in the light."""
    rng, xs = c.rng, c.xs
    for i in range(ranks):
        near = i / (ranks - 1) if ranks > 1 else 0.5
        rise = height * (1.0 - 0.45 * near) * rng.uniform(0.8, 1.15)
        summit_x = rng.uniform(0.2, 0.8) if i == 0 else None
        outline = noise_line(rng, xs, rng.uniform(1.7, 2.6) * (1 + 0.3 * near), 7, ridged=True)
        ridge = base_y - height * 0.55 + height * 0.62 * near - rise * outline * 0.8
        if i == 0:
            ridge = ridge - rise * 0.35 * np.exp(-((xs - summit_x) / 0.22) ** 2)
        below = c.Y - ridge[None]

        rock_texture, o = ROUGH[int(rng.integers(0, 4))], rng.random(2) * 512
        follow = c.Y - ridge[None] * 0.35
        warp = c.X + 0.035 * lookup(CLOUD[int(rng.integers(0, 6))], c.X * 80 + o[1], c.Y * 80 + o[0])
        u, v = warp * 120 + follow * 38 * c.lit_side + o[0], follow * 62 + o[1]
        facets = lookup(rock_texture, u + 2.6 * c.lit_side, v - 2.6 * 0.6) - lookup(rock_texture, u, v)
        facets = np.tanh(facets * 1.5) * 0.8 * 0.9
        if abs(c.slant) > 0.2:
            facets = facets - np.gradient(ridge, xs)[None] * c.slant * 0.25
        lit = np.clip(0.5 + 0.6 * np.clip(facets, -1, 1), 0, 1)

        rock = rgb("66748c") if c.day else rgb("6f7388")
        if c.day and not snow:
            rock = mix(rgb("5d7a6c"), rock, 1 - near * 0.75)
        rock = c.tone(rock)
        in_light = mix(rock, c.light * 0.4, 0.3) if c.night else mix(rock, c.tone(WHITE_COLOUR) * 0.8, 0.22)
        colour = mix(mix(rock * 0.52, c.shade, 0.35), in_light, lit)
        if snow:
            bright = mix(c.tone(WHITE_COLOUR), c.light * 0.62, 0.7) if c.night else c.tone([0.93, 0.95, 1.0])
            snow_colour = mix(mix(bright * 0.58, c.lower if c.night else c.upper, 0.42), bright, lit)
            if c.low_sun:
                snow_colour = mix(snow_colour, c.light, lit * 0.32)
            depth = below / rise
            covered = smoothstep(0.58, 0.3, depth + 0.17 * lookup(rock_texture, u * 1.3, v * 1.3) + 0.12 * (1 - lit)
                                 - 0.1 * (1 - near))
            if near > 0.7:
                covered = smoothstep(0.1, 0.0, depth + 0.2 * lookup(rock_texture, u * 1.7, v * 1.7))
            colour = mix(colour, snow_colour, covered)

        distance = np.clip((1 - near) * (0.42 if snow else 0.62) + 0.06 + c.fog * 0.22 * (1 - near * 0.6), 0, 0.93)
        down = np.clip(below / (height * 1.05), 0, 1) ** 1.2
        haze = np.clip(distance + (1 - distance) * down * (0.5 + 0.4 * c.fog) * (1 - near * 0.55), 0, 1)
        c.layer(ridge, c.haze(colour, haze), 1.3)


def pine_line(c, base_y, height, count, colour, haze, wobble=0.03, mist=0.0):
    """A row of pines on uneven ground; mist: how far they fade towards their feet."""
    rng, size = c.rng, c.size
    ridge = base_y + wobble * noise_line(rng, c.xs, 2.5, 4)
    mask = np.clip((c.Y - ridge[None]) / c.pixel + 0.5, 0, 1)
    for x in rng.random(count):
        tall = height * rng.uniform(0.55, 1.15)
        wide = tall * rng.uniform(0.2, 0.27)
        foot = ridge[min(size - 1, max(0, int(x * size)))] + 0.01
        x0, x1 = max(0, int((x - wide) * size)), min(size, int((x + wide) * size) + 2)
        y0, y1 = max(0, int((foot - tall) * size) - 1), min(size, int(foot * size) + 2)
        if x1 <= x0 or y1 <= y0:
            continue
        X, Y = c.X[y0:y1, x0:x1], c.Y[y0:y1, x0:x1]
        q = np.clip((Y - (foot - tall)) / tall, 0, 1)
        half_width = wide * q ** 0.85 * (0.62 + 0.38 * ((q * 6.0) % 1.0)) * 0.95
        tree = np.clip((half_width - np.abs(X - x)) / c.pixel + 0.5, 0, 1) * (Y < foot)
        mask[y0:y1, x0:x1] = np.maximum(mask[y0:y1, x0:x1], tree)
    colour = c.haze(colour, haze)
    if mist > 0:
        colour = c.haze(colour, np.clip((c.Y - base_y + height * 0.5) / (height * 1.2), 0, 1) * mist)
    c.hide_sky(mask)
    c.over(colour, mask)


def water(c, surface_y, depth_tint, roughness):
    """Mirrors what stands above surface_y, displaced by waves, with the light glittering under the sun."""
    depth = np.clip(c.Y - surface_y, 0, 1)
    near = 0.018 + depth
    o = c.rng.random(2) * 512
    ripple = lookup(FINE[0], c.X * 70 / (near * 3.2 + 0.25) + o[0], np.log(near) * 150 + o[1])
    swell = lookup(CLOUD[2], c.X * 60 / (near * 3 + 0.3) + o[1], np.log(near) * 90 + o[0])
    strength = roughness * (0.25 + near * 2.2)
    last_row = max(1, int(surface_y / c.pixel)) - 1
    row = np.clip((surface_y - depth * 1.02 + (ripple * 0.011 + swell * 0.014) * strength * 2.2) / c.pixel - 0.5,
                  0, last_row)
    column = np.clip((c.X + (swell * 0.012 + ripple * 0.004) * strength * 1.4) / c.pixel - 0.5, 0, c.size - 1)
    row0, column0 = row.astype(int), column.astype(int)
    fy, fx = (row - row0)[..., None], (column - column0)[..., None]
    row1, column1 = np.minimum(row0 + 1, last_row), np.minimum(column0 + 1, c.size - 1)
    image = c.image
    mirror = (image[row0, column0] * (1 - fx) + image[row0, column1] * fx) * (1 - fy) \
        + (image[row1, column0] * (1 - fx) + image[row1, column1] * fx) * fy
    colour = mix(c.water_tint, mirror, np.clip(0.92 - depth * 1.15 * depth_tint, 0.22, 0.95))
    colour = colour * (1 + (ripple * 0.075 + swell * 0.03) * roughness * np.clip(near * 4, 0.15, 1))[..., None]
    if c.body != "none" and not c.fog:
        width = (0.03 + depth * 0.16) * (1.6 if c.day else 1)
        glitter = np.exp(-((c.X - c.body_x) / width) ** 2) * np.exp(-depth * 1.1) * (0.5 if c.day else 1.0) \
            * smoothstep(-0.1, 1.3, ripple * 1.1 + swell * 0.4 + 0.35)
        colour = mix(colour, mix(c.light, np.array([1, 1, 0.95], F32), 0.3 if c.night else 0.45),
                     glitter * (0.62 if c.night else 0.85))
    mask = np.clip((c.Y - surface_y) / c.pixel + 0.5, 0, 1)
    c.hide_sky(mask)
    c.over(colour, mask)


# ------------------------------------------------------------------ the terrains

def sea(c):
    rng, hz = c.rng, c.horizon_y
    if c.chance(0.4):
        headland(c)
    water(c, hz, 1.0, 1.5 if c.weather == "rain" else 1.0)
    c.ground = hz + 0.16


def headland(c):
    """A far shore that falls to the water from the left or the right edge."""
    rng = c.rng
    from_edge = c.xs if c.chance(0.5) else 1 - c.xs
    rise = 0.05 + 0.05 * rng.random()
    slope = np.clip(1 - from_edge / rng.uniform(0.3, 0.6), 0, 1) ** 0.7
    ridge = c.horizon_y + 0.012 - rise * slope * (1 + 0.35 * noise_line(rng, c.xs, 5, 5))
    c.layer(np.minimum(ridge, c.horizon_y + 0.02), c.haze(c.tone(rgb("51606e")), 0.5))


def lake(c):
    hz = c.horizon_y
    mountain_range(c, hz - 0.01, c.rng.uniform(0.24, 0.34), 2, c.chance(0.6))
    trees = c.tone(rgb("2f4a3a")) if c.day else mix(c.dark, c.tone(rgb("3a4a48")), 0.5)
    pine_line(c, hz - 0.004, c.rng.uniform(0.05, 0.085), 46, c.haze(trees, 0.12), 0.1, 0.008)
    water(c, hz, 0.75, 0.45)
    c.ground = hz + 0.17


def green_mountains(c):
    rng, hz, xs = c.rng, c.horizon_y, c.xs
    mountain_range(c, hz + 0.02, rng.uniform(0.36, 0.5), 3, snow=False)
    pine_line(c, hz + 0.05, rng.uniform(0.05, 0.085), 60,
              c.haze(mix(c.dark, c.tone(rgb("31503f")), 0.55), 0.15), 0.1, 0.03)
    ridge = hz + 0.1 + 0.05 * noise_line(rng, xs, 1.6, 4)
    grass = c.tone(rgb("5c7a42" if c.chance(0.6) else "3f5f48"))
    below = c.Y - ridge[None]
    texture = lookup(FINE[1], c.X * 120 + c.offset(), below * 300 + c.offset())
    c.layer(ridge, mix(grass * 0.5, grass, np.clip(0.75 + texture * 0.13 - below * 2.0, 0, 1)), 1.3)
    c.ground = hz + 0.16


def snowy_mountains(c):
    rng, hz, xs = c.rng, c.horizon_y, c.xs
    mountain_range(c, hz + 0.02, rng.uniform(0.36, 0.5), 3, snow=True)
    ridge = hz + 0.06 + 0.05 * noise_line(rng, xs, 1.5, 3, 0.35)
    snow = mix(c.tone(WHITE_COLOUR), c.light * 0.5, 0.6) if c.night else c.tone([0.92, 0.95, 1.0])
    slope = np.gradient(ridge, xs)[None] * -c.slant
    below = c.Y - ridge[None]
    texture = lookup(CLOUD[3], c.X * 70 + c.offset(), below * 150 + c.offset())
    colour = mix(mix(snow * 0.66, c.lower if c.night else c.upper, 0.35), snow,
                 np.clip(0.6 + slope * 0.7 + texture * 0.18 - below * 0.9, 0, 1))
    if c.chance(0.7):
        pine_line(c, hz + 0.05, rng.uniform(0.07, 0.12), 26, mix(c.dark, c.tone(rgb("44585c")), 0.45), 0.18, 0.02)
    c.layer(ridge, colour, 1.5)
    c.ground = hz + 0.13


def desert(c):
    rng, hz, xs = c.rng, c.horizon_y, c.xs
    if c.chance(0.45):
        mountain_range(c, hz + 0.03, 0.14, 1, snow=False)
    if c.scene["subject"] == "pyramids":  # they stand behind the dunes
        pyramid(c, rng.uniform(0.2, 0.35), 0.17)
        pyramid(c, rng.uniform(0.6, 0.8), 0.24)
    sand = rgb(str(rng.choice(["e8b878", "e0a066", "efc890", "d89058"])))
    for i in range(4):
        dune(c, i / 3, sand)
    c.ground = hz + 0.2


def pyramid(c, x, height):
    base = c.horizon_y + 0.03
    q = (c.Y - (base - height)) / height
    mask = np.clip((q * height * 1.02 - np.abs(c.X - x)) / c.pixel + 0.5, 0, 1) * (q > 0) * (c.Y < base + 0.03)
    stone = c.tone(rgb("d9b27a"))
    edge = 0.16 * q * height
    in_shade = smoothstep(-c.pixel, c.pixel, c.X - x - edge) if c.slant < 0 else \
        smoothstep(c.pixel, -c.pixel, c.X - x + edge)
    courses = np.sin(q * 70) * 0.025
    c.over(c.haze(mix(stone * (1 + courses[..., None]), stone * 0.5 + c.shade * 0.08, in_shade), 0.22), mask)


def dune(c, near, sand):
    """A crest that rises over 62% of its period and falls over the rest, with a shadow on its lee side."""
    rng, xs = c.rng, c.xs
    frequency, phase = rng.uniform(1.1, 1.9), rng.random() * 6.28
    turn = ((xs * frequency * 6.28 + phase + 0.6 * noise_line(rng, xs, 1.6, 2)) / 6.28) % 1.0
    crest = np.where(turn < 0.62, turn / 0.62, 1 - (turn - 0.62) / 0.38)
    crest = crest * crest * (3 - 2 * crest) * 0.6 + crest * 0.4
    ridge = c.horizon_y + 0.015 + 0.1 * near + 0.085 * near * near - (0.055 + 0.06 * near) * crest
    below = c.Y - ridge[None]
    sand = mix(c.tone(sand), c.light * 0.3, 0.35) if c.night else c.tone(sand)
    ripples = lookup(FINE[2], c.X * 35 + c.offset(), below * 330 + c.X * 60 + c.offset())
    wiggle = 0.05 * lookup(CLOUD[4], c.X * 30, c.Y * 110 + 50 * near)
    lee = smoothstep(0.6, 0.64, turn[None] + 0.4 * wiggle - np.clip(below * 1.9, 0, 0.6)) \
        * smoothstep(1.0, 0.93, turn)[None]
    lit = 1 - lee if c.slant <= 0 else np.clip(0.42 + lee * 0.58, 0, 1)
    lit = np.clip(0.12 + lit * 0.8 + 0.07 * ripples * 0.6 - below * 0.8, 0, 1)
    in_shade = sand * 0.5 if c.night else mix(sand * 0.46, c.shade, 0.3)
    in_light = mix(sand, c.tone([1, 0.95, 0.85]) if c.day else c.light * c.brightness * 1.1, 0.15)
    c.layer(ridge, c.haze(mix(in_shade, in_light, lit), (1 - near) * 0.42 + c.fog * 0.3 * (1 - near * 0.6)), 1.3)


def hills(c):
    rng, hz = c.rng, c.horizon_y
    if c.chance(0.6):
        mountain_range(c, hz + 0.02, 0.2, 2, c.chance(0.3))
    grass = rgb(str(rng.choice(["6f9a3e", "82a848", "5a8a44", "9aa83e", "7ba04a"])))
    in_flower = c.chance(0.35)
    flower = rgb(str(rng.choice(["d04a5a", "f0c040", "a070d0", "f4f0f0"])))
    for i in range(4):
        hill(c, i, grass, flower if in_flower else None)
    c.ground = hz + 0.2


def hill(c, index, grass, flower):
    rng, xs = c.rng, c.xs
    near = index / 3
    ridge = c.horizon_y + 0.02 + 0.11 * near + 0.08 * near * near \
        - (0.05 + 0.05 * near) * noise_line(rng, xs, rng.uniform(1.2, 1.9), 2, 0.35)
    green = mix(c.tone(grass), c.lower * 0.7, 0.45) if c.night else \
        c.tone(mix(grass, rgb("3f6a3a"), 0.4 * rng.random()))
    below, scale = c.Y - ridge[None], 1.2 - 0.6 * near
    texture = lookup(FINE[3], c.X * 150 * scale + c.offset(), below * 330 * scale + c.offset())
    lit = np.clip(0.62 - np.gradient(ridge, xs) * c.slant * 1.1, 0, 1)[None] + texture * 0.1 - below * 1.7
    colour = mix(mix(green * 0.42, c.shade, 0.15), mix(green, c.light * c.brightness, 0.12) * 1.08, np.clip(lit, 0, 1))
    if flower is not None and near > 0.4:
        scale = 1.3 - 0.55 * near
        dots = lookup(WHITE[0], c.X * 140 * scale + c.offset(), c.Y * 260 * scale + c.offset())
        colour = mix(colour, c.tone(flower) * 1.15, smoothstep(0.9, 1.5, dots) * 0.85 * smoothstep(0, 0.05, below))
    haze = (1 - near) * 0.46 + c.fog * 0.35 * (1 - near * 0.7)
    if index in (1, 2) and c.chance(0.75):
        for _ in range(int(rng.integers(4, 12))):
            x, radius = rng.random(), rng.uniform(0.008, 0.02) * (0.6 + near)
            y = ridge[int(x * (c.size - 1))] - radius * 0.6
            distance = np.sqrt((c.X - x) ** 2 + ((c.Y - y) * 0.9) ** 2)
            leaves = 0.2 * radius * lookup(FINE[0], c.X * 500, c.Y * 500)
            c.over(c.haze(green * 0.36 + c.shade * 0.12, haze * 0.9), c.disc_edge(distance + leaves, radius))
    c.layer(ridge, c.haze(colour, haze), 1.3)


def forest(c):
    hz = c.horizon_y
    if c.chance(0.6):
        mountain_range(c, hz - 0.06, 0.26, 2, c.chance(0.3))
    green = c.tone(rgb("2f5a41" if c.day else "3a5852"))
    for i in range(4):
        near = i / 3
        haze = (1 - near) ** 1.1 * (0.82 if c.fog else 0.62) + (0.12 if c.fog else 0.04)
        pine_line(c, hz - 0.07 + 0.30 * near, 0.13 + 0.17 * near, int(34 - 18 * near),
                  mix(green, c.dark * 0.6, 0.25 + 0.45 * near), haze, 0.035, 0.55 if c.fog else 0.3 * (1 - near))
    c.ground = 0.93


def city(c):
    rng, hz = c.rng, c.horizon_y
    if c.chance(0.4):
        mountain_range(c, hz, 0.15, 1, snow=False)
    on_water = c.chance(0.55)
    base = hz + (0.0 if on_water else 0.12)
    wall = c.tone(rgb("76839a")) if c.day else mix(c.shade, c.lower, 0.35)
    for i in range(3):
        near, x = i / 2, -0.05
        colour = mix(wall, rgb("45546c") if c.day else c.dark, 0.25 + 0.5 * near)
        centre = rng.uniform(0.35, 0.65)  # where the towers are tallest
        while x < 1.05:
            width = rng.uniform(0.035, 0.085)
            height = (0.34 - 0.12 * near) * rng.uniform(0.3, 1.0) * (0.55 + 0.6 * np.exp(-((x - centre) / 0.25) ** 2))
            building(c, x, width, base - height, base, near, colour)
            x += width * rng.uniform(0.75, 1.05)
    if on_water:
        water(c, hz, 0.7, 0.6)
    else:
        c.layer(base + 0 * c.xs, c.haze(c.dark, 0.06))
        c.layer(base - 0.012 - 0.012 * np.abs(noise_line(rng, c.xs, 24, 3)), c.dark * 0.85, 1.2)  # trees of a park
    c.ground = base


def building(c, x, width, top, base, near, colour):
    rng, size = c.rng, c.size
    left, right = int(round(max(0, x) * size)), int(round(min(1, x + width) * size))
    if right <= left:
        return
    X, Y = c.X[:, left:right], c.Y[:, left:right]
    mask = np.clip((Y - top) / c.pixel + 0.5, 0, 1) * (Y < base + c.pixel)
    if c.chance(0.2):  # a spire
        spire = np.clip((0.004 - np.abs(X - x - width / 2)) / c.pixel + 0.5, 0, 1) * (Y > top - 0.05) * (Y <= top)
        mask = np.maximum(mask, spire)
    across = (X - x) / width
    shading = 1 - 0.22 * (across if c.slant < 0 else 1 - across)
    haze = (1 - near) * 0.55 + 0.05 + c.fog * 0.3 * (1 - near * 0.6)
    colour = c.haze(colour * shading[..., None] * rng.uniform(0.85, 1.12),
                    haze + 0.25 * np.clip((Y - top) / 0.35, 0, 1) * (1 - near * 0.6))
    if near > 0.2:
        colour = windows(c, colour, X, Y, x, width, top, base)
    c.image[:, left:right] = mix(c.image[:, left:right], colour, mask)
    c.cover[:, left:right] = np.maximum(c.cover[:, left:right], mask)


def windows(c, colour, X, Y, x, width, top, base):
    rng = c.rng
    u, v = (X - x) / 0.0125, (Y - top) / 0.0165
    column, row = np.floor(u).astype(int), np.floor(v).astype(int)
    panes = (u % 1 > 0.25) & (u % 1 < 0.8) & (v % 1 > 0.3) & (v % 1 < 0.8) & (row > 0) & (Y < base - 0.01) \
        & (X - x < width - 0.006)
    lit = rng.random((64, 64))[row % 64, column % 64] < (0.45 if c.night else 0.0 if c.day else 0.28)
    lamp = rgb("ffd98a") if c.chance(0.75) else rgb("cfe4ff")
    if c.day:
        return mix(colour, mix(c.upper, WHITE_COLOUR, 0.3), panes * 0.3)
    return mix(colour, lamp, panes * lit * (0.9 if c.night else 0.75))
