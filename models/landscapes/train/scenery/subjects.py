"""The things that a picture can be about. Pyramids are part of the desert and drawn there."""
import numpy as np

from scenery.canvas import WHITE
from scenery.textures import F32, FINE, ROUGH, lookup, mix, noise_line, rgb, smoothstep

SUBJECT_X = {"left": 0.24, "center": 0.5, "right": 0.76}


def draw_subject(canvas):
    x = SUBJECT_X[canvas.scene["subject_place"]] + canvas.rng.uniform(-0.05, 0.05)
    draw = {"sailboat": sailboat, "lighthouse": lighthouse, "cabin": cabin, "tree": tree, "pines": pines,
            "cactus": cactus, "palm": palms, "windmill": windmill, "balloon": balloon, "birds": birds}
    if canvas.scene["subject"] in draw:
        draw[canvas.scene["subject"]](canvas, x)


def sailboat(c, x):
    z, y = c.rng.uniform(0.1, 0.17), c.ground + c.rng.uniform(-0.05, 0.04)
    sail = mix(c.lower, c.light, 0.45) if c.night else c.tone([1, 0.98, 0.94])
    if c.time == "sunset":
        sail = mix(c.tone(WHITE), c.light, 0.35) * 0.95
    hull = c.tone(rgb("7a3b2a")) if c.day else c.dark * 0.7
    way = 1 if c.chance(0.5) else -1
    for up, alpha in ((-0.75, 0.33), (1, 1.0)):  # the reflection, then the boat
        at = lambda dx, dy: (x + dx * z, y - up * dy * z)
        c.polygon([at(-0.05 * way, 1.25), at(-0.05 * way, 0.16), at(-0.55 * way, 0.16)], sail, alpha)
        c.polygon([at(0.02 * way, 1.1), at(0.02 * way, 0.16), at(0.42 * way, 0.16)], sail * 0.82, alpha)
        c.polygon([at(-0.6 * way, 0.11), at(0.58 * way, 0.11), at(0.4 * way, -0.03), at(-0.46 * way, -0.03)], hull, alpha)
        c.polygon([at(-0.025, 1.3), at(0, 1.3), at(0, 0.1), at(-0.025, 0.1)], hull * 0.8, alpha)


def lighthouse(c, x):
    base, height, width = c.horizon_y, c.rng.uniform(0.3, 0.38), 0.032
    rock = c.tone(rgb("5a5650")) if c.day else mix(c.dark, c.shade, 0.4)
    island = c.horizon_y + 0.075 - 0.085 * np.exp(-((c.xs - x) / 0.13) ** 2) * (1 + 0.25 * noise_line(c.rng, c.xs, 9, 5))
    island = np.where(np.abs(c.xs - x) < 0.3, island, 2)
    island_mask = np.clip((c.Y - island[None]) / c.pixel + 0.5, 0, 1) * \
        smoothstep(c.horizon_y + 0.1 + 0.012 * np.sin(c.X * 70), c.horizon_y + 0.085, c.Y)
    white = mix(c.lower, c.light, 0.35) if c.night else c.tone([0.98, 0.97, 0.95])
    red = mix(rgb("5a1a24"), c.lower, 0.2) if c.night else c.tone(rgb("c8352f"))
    lamp_y = base - height
    if c.night or c.time == "sunset":  # the beam
        way = -1 if x > 0.5 else 1
        angle = np.arctan2(c.Y - lamp_y, (c.X - x) * way)
        distance = np.sqrt((c.X - x) ** 2 + (c.Y - lamp_y) ** 2)
        c.over(rgb("fff0b8"), np.exp(-((angle + 0.12) / 0.085) ** 2) * np.exp(-distance / 0.55)
               * ((c.X - x) * way > 0) * (0.75 if c.night else 0.3))
    for k in range(5):  # the tower, in stripes
        low, high = k / 5, (k + 1) / 5
        w0, w1 = width * (1 - 0.38 * low), width * (1 - 0.38 * high)
        y0, y1 = base - height * 0.88 * low + 0.004, base - height * 0.88 * high
        c.polygon([(x - w0, y0), (x + w0, y0), (x + w1, y1), (x - w1, y1)], red if k % 2 else white)
    w = width * 0.55
    box = lambda half, low, high: [(x - half, base - height * low), (x + half, base - height * low),
                                   (x + half, base - height * high), (x - half, base - height * high)]
    c.polygon(box(w * 1.5, 0.88, 0.905), c.dark)
    c.polygon(box(w, 0.905, 0.985), rgb("9fc4d8") if c.day else rgb("ffeaa0"))
    c.polygon([(x - w * 1.3, base - height * 0.985), (x, base - height * 1.08), (x + w * 1.3, base - height * 0.985)],
              red * 0.8)
    if c.night:
        distance = np.sqrt((c.X - x) ** 2 + (c.Y - base + height * 0.945) ** 2)
        c.image = c.image + rgb("ffe9a0") * (np.exp(-distance / 0.03) * 0.7)[..., None]
    grain = lookup(ROUGH[0], c.X * 200, c.Y * 200)
    c.over(mix(rock * 0.5, rock, np.clip(0.6 + grain * 0.3, 0, 1)), island_mask)


def cabin(c, x):
    z, base = c.rng.uniform(0.14, 0.19), 0.93 if c.terrain == "forest" else c.ground + 0.07
    if c.terrain == "lake":  # on the far shore
        base, z = c.horizon_y + 0.006, z * 0.62
    wall = mix(rgb("2a1a18"), c.lower, 0.18) if c.night else c.tone(rgb("8a5a38"))
    roof = c.tone(rgb("6a3f34")) if c.day else mix(c.dark, c.shade, 0.35)
    if c.terrain == "snowy":
        roof = mix(c.lower, c.light, 0.4) if c.night else c.tone([0.95, 0.97, 1])
    eaves = base - z * 0.42
    box = lambda x0, y0, x1, y1: [(x + x0 * z, eaves + y0 * z), (x + x1 * z, eaves + y0 * z),
                                  (x + x1 * z, eaves + y1 * z), (x + x0 * z, eaves + y1 * z)]
    c.polygon(box(0.2, -0.46, 0.3, -0.12), wall * 0.6)  # chimney
    c.polygon(box(-0.5, 0, 0.5, 0.42), wall)
    for k in range(3):  # logs
        c.polygon(box(-0.5, 0.42 * (k + 0.45) / 3, 0.5, 0.42 * (k + 0.6) / 3), wall * 0.72)
    c.polygon([(x - z * 0.6, eaves + z * 0.03), (x, eaves - z * 0.4), (x + z * 0.6, eaves + z * 0.03)], roof)
    c.polygon(box(-0.34, 0.11, -0.12, 0.29), rgb("9cc0d4") if c.day else rgb("ffd27a"))  # window
    c.polygon(box(0.12, 0.1, 0.32, 0.42), wall * 0.5)  # door
    if not c.day:
        distance = np.sqrt((c.X - x + z * 0.23) ** 2 + (c.Y - eaves - z * 0.2) ** 2)
        c.image = c.image + rgb("ffc870") * (np.exp(-distance / (z * 0.4)) * 0.38 * (1 if c.night else 0.6))[..., None]


def tree(c, x):
    base, z = c.ground + 0.06, c.rng.uniform(0.24, 0.34)
    trunk = mix(c.dark * 0.6, c.tone(rgb("4a3422")), 0.5 if c.day else 0.2)
    leaf = c.tone(rgb("4f7d2c")) if c.day else mix(c.dark * 0.6, c.tone(rgb("3f5a34")), 0.45)
    c.polygon([(x - z * 0.05, base), (x - z * 0.022, base - z * 0.5), (x + z * 0.022, base - z * 0.5),
               (x + z * 0.05, base)], trunk)
    fine = lookup(FINE[1], c.X * 330 + c.offset(), c.Y * 330 + c.offset())
    rough = lookup(ROUGH[1], c.X * 170 + c.offset(), c.Y * 170 + c.offset())
    ex, ey = (c.X - x) / (z * 0.42), (c.Y - (base - z * 0.72)) / (z * 0.33)
    radius = np.sqrt(ex * ex + ey * ey * np.where(ey > 0, 1.5, 1.0))  # flatter below
    crown = smoothstep(1.04, 0.92, radius + 0.09 * fine + 0.12 * rough)
    lit = np.clip(0.5 + 0.32 * (ex * c.lit_side * 0.8 - ey) + 0.16 * fine, 0, 1)
    c.over(mix(leaf * 0.5, mix(leaf * 1.2, c.light * c.brightness, 0.18), lit), crown)


def pines(c, x):
    rng = c.rng
    for _ in range(int(rng.integers(3, 6))):
        at, z = x + rng.uniform(-0.14, 0.14), rng.uniform(0.24, 0.42)
        base = (1.0 if c.terrain == "lake" else c.ground + 0.1) + rng.uniform(0, 0.05)
        if c.terrain == "lake":
            z *= 1.15
        q = np.clip((c.Y - (base - z)) / z, 0, 1)
        branch = (q * 8 + rng.random()) % 1.0
        half_width = z * 0.19 * q ** 0.9 * (0.55 + 0.45 * branch)
        mask = np.clip((half_width - np.abs(c.X - at + 0.004 * np.sin(c.Y * 90))) / c.pixel + 0.5, 0, 1) \
            * (c.Y < base) * (q > 0)
        colour = mix(c.tone(rgb("25452f")), c.dark * 0.55, 0.55) * np.ones_like(c.image)
        if c.terrain == "snowy":
            colour = mix(colour, c.tone([0.92, 0.95, 1.0]) * (0.8 if c.night else 1), smoothstep(0.5, 0.0, branch) * 0.7)
        c.over(colour, mask)


def cactus(c, x):
    base, z = c.ground + 0.1, c.rng.uniform(0.2, 0.27)
    colour = c.tone(rgb("4f7a3c")) if c.day else mix(c.dark * 0.6, c.tone(rgb("3c5a38")), 0.35)

    def limb(dx0, dy0, dx1, dy1, width):
        """A thick line with round ends, shaded as a cylinder."""
        x0, y0, x1, y1 = x + dx0 * z, base - dy0 * z, x + dx1 * z, base - dy1 * z
        vx, vy = x1 - x0, y1 - y0
        t = np.clip(((c.X - x0) * vx + (c.Y - y0) * vy) / (vx * vx + vy * vy), 0, 1)
        across = c.X - x0 - t * vx
        distance = np.sqrt(across ** 2 + (c.Y - y0 - t * vy) ** 2)
        shading = np.clip(0.75 + 0.5 * across / width * c.lit_side, 0.45, 1.2)
        c.over(colour * shading[..., None], c.disc_edge(distance, width))

    width = z * 0.085
    limb(0, 0, 0, 1, width)
    limb(0, 0.38, -0.27, 0.38, width * 0.7)
    limb(-0.27, 0.38, -0.27, 0.72, width * 0.7)
    limb(0, 0.52, 0.25, 0.52, width * 0.7)
    limb(0.25, 0.52, 0.25, 0.86, width * 0.7)


def palms(c, x):
    rng = c.rng
    for k in range(int(rng.integers(1, 3))):
        at, base, z = x + k * 0.09, c.ground + 0.1, rng.uniform(0.26, 0.36)
        colour = mix(c.dark * 0.55, c.tone(rgb("3f5a2a")), 0.55 if c.day else 0.15)
        lean = rng.uniform(-0.05, 0.05)
        up = np.clip((base - c.Y) / z, 0, 1)
        trunk = np.clip((0.011 * (1.25 - 0.5 * up) - np.abs(c.X - at - lean * up * up)) / c.pixel + 0.5, 0, 1)
        c.over(colour * 0.8, trunk * (c.Y < base) * (c.Y > base - z))
        length = z * 0.42
        for angle in np.linspace(-2.9, 0.2, 8) + rng.uniform(-0.15, 0.15):
            ca, sa = np.cos(angle), np.sin(angle)
            along = (c.X - at - lean) * ca + (c.Y - base + z) * sa
            across = -(c.X - at - lean) * sa + (c.Y - base + z) * ca
            droop = (along / length) ** 2 * length * 0.38 * (1 if ca > 0 else -1)
            half_width = 0.022 * z / 0.3 * np.sin(np.clip(along / length, 0, 1) * 3.0)
            frond = np.clip((half_width - np.abs(across - droop)) / c.pixel + 0.5, 0, 1)
            c.over(colour, frond * (along > 0) * (along < length))


def windmill(c, x):
    base, z = c.ground + 0.02, c.rng.uniform(0.24, 0.3)
    body = mix(c.lower, c.light, 0.3) if c.night else c.tone([0.95, 0.92, 0.86])
    roof = c.dark if c.night else c.tone(rgb("8a3f34"))
    at = lambda dx, dy: (x + dx * z, base - dy * z)
    c.polygon([at(-0.2, 0), at(-0.12, 0.72), at(0.12, 0.72), at(0.2, 0)], body)
    c.polygon([at(0, 0), at(0.03, 0.72), at(0.12, 0.72), at(0.2, 0)], body * 0.78)
    c.polygon([at(-0.14, 0.72), at(0, 0.95), at(0.14, 0.72)], roof)
    c.polygon([at(-0.045, 0), at(-0.045, 0.17), at(0.045, 0.17), at(0.045, 0)], roof * 0.7)
    turn, (hub_x, hub_y), length, width = c.rng.uniform(0, 1.57), at(0, 0.74), z * 0.55, 0.032
    for k in range(4):
        ca, sa = np.cos(turn + k * 1.5708), np.sin(turn + k * 1.5708)
        vane = lambda along, across: (hub_x + ca * along - sa * across, hub_y + sa * along + ca * across)
        c.polygon([vane(0.02, 0), vane(length, 0), vane(length, width), vane(0.05, width)], mix(body, c.dark, 0.45))


BALLOON_COLOURS = {"red": ["d8322e", "f0e6d2"], "blue": ["2a62c8", "e8eef8"], "yellow": ["f2b81e", "fff2c8"],
                   "rainbow": ["e0403a", "f0902c", "f4d03a", "4fb050", "3a7ad0", "8a4fb8"]}


def balloon(c, x):
    z, y = c.rng.uniform(0.085, 0.125), c.rng.uniform(0.2, 0.36)
    codes = BALLOON_COLOURS[c.scene["balloon"]]
    colours = [c.tone(rgb(code)) * 1.6 + 0.1 * rgb(code) if c.night else c.tone(rgb(code)) * 1.1 for code in codes]
    down = (c.Y - y) / z
    half_width = np.where(down < 0.25, np.sqrt(np.clip(1 - down ** 2, 0, 1)),
                          np.clip(0.968 * np.cos((down - 0.25) * 0.98), 0, 1))
    across = (c.X - x) / z
    mask = np.clip((half_width - np.abs(across)) * z / c.pixel + 0.5, 0, 1) * ((down > -1) & (down < 1.32))
    around = np.arcsin(np.clip(across / np.maximum(half_width, 0.05), -1, 1)) / np.pi + 0.5
    gores = 7 if len(colours) == 2 else 6
    gore = np.clip((around * gores).astype(int), 0, gores - 1) % len(colours)
    shading = np.clip(0.86 + 0.32 * across * c.lit_side - 0.16 * down, 0.45, 1.2)
    c.over(np.array(colours, F32)[gore] * shading[..., None], mask)
    at = lambda dx, dy: (x + dx * z, y + dy * z)
    c.polygon([at(-0.15, 1.62), at(0.15, 1.62), at(0.13, 1.86), at(-0.13, 1.86)], c.tone(rgb("7a4a28")))  # basket
    for side in (-1, 1):
        c.polygon([at(side * 0.24, 1.25), at(side * 0.28, 1.25), at(side * 0.15, 1.64), at(side * 0.12, 1.64)],
                  c.dark, 0.7)


def birds(c, x):
    rng = c.rng
    colour = mix(c.lower, c.light, 0.25) if c.night else c.dark * 0.5
    y = rng.uniform(0.18, 0.36)
    for _ in range(int(rng.integers(4, 8))):
        at_x, at_y, z = x + rng.normal(0, 0.085), y + rng.normal(0, 0.05), rng.uniform(0.032, 0.048)
        q = np.abs(c.X - at_x) / z
        wing = np.clip(q, 0, 1)
        half_thickness = 0.008 * (1 - wing ** 2) + 0.001
        off = np.abs(c.Y - (at_y - z * 0.42 * np.sin(wing * 2.6)))
        c.over(colour, np.clip((half_thickness - off) / c.pixel + 0.5, 0, 1) * (q < 1))
