"""What a picture can be of: the attributes of a scene, their values, and how often each is drawn.

A scene is a dictionary of strings. Renderer, captions and evaluation share this vocabulary:

    time, palette     the light
    terrain, weather
    body, place       sun or moon, and where it stands
    subject, subject_place, balloon (its colour)
"""

# zenith, upper, lower and horizon colour of the sky; colour of the light; colour of the shadow
PALETTES = {
    ("sunset", "golden"): ("2b4a7e", "8a7aa0", "f5a962", "ffe3a0", "ffd27a", "40304a"),
    ("sunset", "red"): ("2a1c4a", "8a2f5a", "e8543f", "ffb257", "ff9a4a", "331a38"),
    ("sunset", "pink"): ("3b4a94", "a070b8", "f49ab0", "ffd9bd", "ffc0a0", "43305c"),
    ("sunset", "purple"): ("1e1b52", "57399a", "b565b8", "ffae9e", "ff9f9a", "281c4c"),
    ("sunset", "orange"): ("274a80", "b07a78", "ff9040", "ffd060", "ffb050", "3c2838"),
    ("dawn", "pink"): ("6d8fd0", "b3a8dc", "f7c0cc", "ffe9d6", "ffd8c4", "5a5480"),
    ("dawn", "golden"): ("5f97cc", "a9c4d8", "f8dca8", "fff2cc", "ffe6a8", "54607a"),
    ("dawn", "blue"): ("3a62ac", "7ea2da", "c8d8ee", "ffe6d0", "ffe0c0", "3f5280"),
    ("noon", "blue"): ("1f66c0", "4a96e0", "98cdf2", "dff2fb", "fffbe8", "3a5a80"),
    ("noon", "turquoise"): ("1583b4", "46b4cc", "9ee0dc", "e8faf0", "fffdea", "2f6a7c"),
    ("night", "blue"): ("050a24", "0d1c4a", "1d3a74", "3b6098", "b8cdf0", "060c22"),
    ("night", "purple"): ("0a0524", "201046", "452474", "7a4a98", "d0c0f0", "0e0824"),
    ("night", "teal"): ("03121f", "08293c", "12505c", "2f7f80", "b8f0e0", "04141c"),
}

ATTRIBUTES = {
    "time": ["sunset", "dawn", "noon", "night"],
    "terrain": ["sea", "mountains", "snowy", "desert", "hills", "forest", "city", "lake"],
    "palette": ["golden", "red", "pink", "purple", "orange", "blue", "turquoise", "teal"],
    "weather": ["clear", "clouds", "fog", "rain", "stars", "aurora"],
    "body": ["none", "sun", "fullmoon", "crescent"],
    "place": ["none", "left", "center", "right"],
    "subject": ["none", "sailboat", "lighthouse", "birds", "balloon", "cabin", "pines", "tree", "cactus", "palm",
                "pyramids", "windmill"],
}
PLACES = ["left", "center", "right"]
MIRROR = {"left": "right", "center": "center", "right": "left"}
BALLOONS = ["red", "blue", "yellow", "rainbow"]

# Each line is drawn from evenly: a repeated subject is drawn more often. Scenes without a subject are few,
# because subjects are what a small model learns last.
SUBJECTS = {
    "sea": ["none", "sailboat", "sailboat", "lighthouse", "lighthouse", "birds", "balloon"],
    "lake": ["none", "sailboat", "sailboat", "cabin", "pines", "birds", "balloon"],
    "mountains": ["none", "balloon", "birds", "cabin", "pines", "tree"],
    "snowy": ["none", "cabin", "cabin", "pines", "birds"],
    "desert": ["none", "cactus", "cactus", "balloon", "birds", "palm", "palm", "pyramids"],
    "hills": ["none", "tree", "tree", "cabin", "balloon", "birds", "windmill", "windmill"],
    "forest": ["none", "none", "cabin", "cabin", "birds"],
    "city": ["none", "none", "balloon", "balloon", "birds"],
}


def pick(rng, values, weights=None):
    return str(rng.choice(values, p=weights))


def threshold(value, table):
    """The first name whose bound exceeds value; the last name has no bound."""
    for bound, name in table:
        if value < bound:
            return name
    return name


def random_scene(rng):
    scene = {"time": pick(rng, ATTRIBUTES["time"], [0.32, 0.16, 0.24, 0.28])}
    night = scene["time"] == "night"
    scene["palette"] = pick(rng, [palette for time, palette in PALETTES if time == scene["time"]])
    scene["terrain"] = pick(rng, ATTRIBUTES["terrain"], [0.2, 0.12, 0.12, 0.12, 0.13, 0.11, 0.1, 0.1])
    scene["weather"] = threshold(rng.random(), [(0.62, "stars"), (0.75, "clouds"), (0.85, "fog"), (1, "aurora")]
                                 if night else [(0.40, "clear"), (0.79, "clouds"), (0.93, "fog"), (1, "rain")])
    if scene["weather"] == "aurora":
        scene["palette"] = pick(rng, ["teal", "blue", "purple"])
    chance = rng.random()
    scene["body"] = threshold(chance, [(0.5, "fullmoon"), (0.72, "crescent"), (1, "none")]
                              if night else [(0.75, "sun"), (1, "none")])
    if scene["weather"] == "rain" or scene["weather"] == "aurora" and chance < 0.7:
        scene["body"] = "none"
    scene["place"] = pick(rng, PLACES)
    scene["subject"] = pick(rng, SUBJECTS[scene["terrain"]])
    scene["subject_place"] = pick(rng, PLACES)
    if scene["subject"] == "balloon" and scene["body"] != "none" and scene["subject_place"] == scene["place"]:
        scene["subject_place"] = pick(rng, [place for place in PLACES if place != scene["place"]])
    scene["balloon"] = pick(rng, BALLOONS)
    return scene


def mirrored(scene):
    return dict(scene, place=MIRROR[scene["place"]], subject_place=MIRROR[scene["subject_place"]])


def labels(scene):
    """The index of each attribute's value, in the order of ATTRIBUTES; a place only where there is a body."""
    shown = dict(scene, place="none" if scene["body"] == "none" else scene["place"])
    return [values.index(shown[name]) for name, values in ATTRIBUTES.items()]


# What a caption can say, and so what the text encoder should know: also the subject's place and a balloon's colour.
SAYABLE = {**ATTRIBUTES, "subject_place": ["none", *PLACES], "balloon": ["none", *BALLOONS]}


def sayable_labels(scene):
    """The index of each value, in the order of SAYABLE."""
    shown = dict(scene)
    if scene["subject"] in ("none", "pyramids"):
        shown["subject_place"] = "none"
    if scene["subject"] != "balloon":
        shown["balloon"] = "none"
    extra = [SAYABLE[name].index(shown[name]) for name in ("subject_place", "balloon")]
    return labels(scene) + extra
