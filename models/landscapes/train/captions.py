"""Captions of a scene: a grammar with many ways to say the same, and with most attributes left unsaid now and
then, so that short prompts work as well as long ones.

    python3 captions.py --count 20        prints some
"""
import argparse

import numpy as np

from scenes import ATTRIBUTES, BALLOONS

PLACES = {
    "sea": ["the sea", "the sea", "the ocean", "a calm sea", "ocean waves"],
    "mountains": ["the mountains", "a mountain range", "green mountains", "mountains"],
    "snowy": ["snowy mountains", "snow capped mountains", "snowy peaks", "a snowy mountain range",
              "mountains in snow"],
    "desert": ["desert dunes", "the desert", "sand dunes", "a sandy desert"],
    "hills": ["green hills", "rolling hills", "grassy hills", "a green meadow", "a green valley"],
    "forest": ["a pine forest", "the forest", "a forest", "a dark forest"],
    "city": ["a city skyline", "the city", "a modern city", "city skyscrapers"],
    "lake": ["a mountain lake", "a calm lake", "a lake and mountains", "a lake"],
}
SUBJECTS = {
    "sailboat": ["a sailboat", "a sailboat", "a sailing boat", "a small sailboat", "a boat"],
    "lighthouse": ["a lighthouse", "a red and white lighthouse"],
    "cabin": ["a cabin", "a wooden cabin", "a small house", "a house"],
    "tree": ["a lone tree", "a tree", "a big tree"],
    "pines": ["pine trees", "tall pine trees"],
    "cactus": ["a cactus", "a tall cactus"],
    "palm": ["palm trees", "a palm tree"],
    "windmill": ["a windmill", "an old windmill"],
    "balloon": ["a {} hot air balloon", "a {} balloon"],
    "birds": ["birds", "a flock of birds", "flying birds"],
    "pyramids": ["pyramids", "the pyramids"],
}
BODIES = {
    "sun": ["the sun", "a bright sun"],
    "fullmoon": ["a full moon", "the full moon", "the moon"],
    "crescent": ["a crescent moon"],
}
TIMES = {
    "sunset": ["sunset", "sunset", "sunset", "evening", "dusk"],
    "dawn": ["dawn", "sunrise", "early morning"],
    "noon": ["noon", "daytime", "midday"],
    "night": ["night", "night", "nighttime"],
}
# after "at" only some of the names of a time will do
AT_TIME = {"evening": "sunset", "early morning": "dawn", "a sunny day": "noon", "daytime": "noon", "nighttime": "night"}
SKIES = {"sunset": "sunset", "dawn": "sunrise", "noon": "day", "night": "night"}
ADJECTIVES = {"stars": ["starry"], "clear": ["clear"], "clouds": ["cloudy"], "fog": ["foggy", "misty"],
              "rain": ["rainy", "stormy"], "aurora": [""]}
WEATHERS = {
    "stars": ["stars", "many stars", "a starry sky"],
    "clear": ["a clear sky", "no clouds"],
    "clouds": ["clouds", "a cloudy sky", "fluffy clouds"],
    "fog": ["fog", "mist"],
    "rain": ["rain", "stormy weather"],
    "aurora": ["northern lights", "aurora", "aurora borealis"],
}
WHERE = {"left": "on the left", "center": "in the center", "right": "on the right"}
OPENINGS = ["", "", "", "", "", "a beautiful ", "a beautiful ", "a stunning ", "a painting of ", "a picture of ",
            "a view of ", "a photo of ", "a drawing of "]
THOROUGH = 0.5  # of all captions leave nothing unsaid but the subject's place: what is said is learned, what is not is noise
PRAISE = ("a beautiful ", "a stunning ")  # these need a noun without an article after them

# Words that the tokenizer keeps whole although no caption has them (yet).
EXTRA_WORDS = """an of ship moonlight twilight water island winter tropical beach landscape scenery bright dark white
    black warm cold art mountain trees star cloud orange yellow one two three""".split()


def caption(scene, rng):
    """One caption; another each time."""
    choose = lambda options: options[int(rng.integers(0, len(options)))]
    chance = lambda probability: rng.random() < probability
    time, weather, body, subject = scene["time"], scene["weather"], scene["body"], scene["subject"]

    thorough = chance(THOROUGH)
    says = lambda probability: thorough or chance(probability)
    place = choose(PLACES[scene["terrain"]])
    palette = scene["palette"] if says(0.6) else ""
    adjective = choose(ADJECTIVES[weather]) if says(0.85) else ""
    body_words = ""
    if body != "none" and says(0.88):
        body_words = choose(BODIES[body]) + (f" {WHERE[scene['place']]}" if says(0.75) else "")
    subject_words = ""
    if subject != "none" and says(0.97):
        colour = "colorful" if scene["balloon"] == "rainbow" else scene["balloon"]
        subject_words = choose(SUBJECTS[subject]).format(colour)
        if subject != "pyramids" and chance(0.5):
            subject_words += f" {WHERE[scene['subject_place']]}"
    times = TIMES[time] + (["a sunny day"] if weather == "clear" and body == "sun" else [])
    time_words = choose(times)
    opening, form = choose(OPENINGS), int(rng.integers(0, 8))
    weather_words = ""

    if form == 0:  # a pink cloudy sunset over the sea
        sky = SKIES[time] if time != "noon" else choose(["blue sky", "sunny day", "day"])
        words = [palette if sky.split()[0] != palette else "", adjective if chance(0.5) else "", sky]
        words = [word for word in words if word]
        core = f"{' '.join(words)} {choose(['over', 'over', 'above'])} {place}"
        if not opening.startswith("a ") and (time != "night" or len(words) > 1):
            core = f"a {core}"
    elif form in (1, 2):  # a foggy forest at dawn
        adjective_here = adjective if weather != "clear" else ""
        article, _, rest = place.partition(" ")
        if article in ("a", "the"):
            core = f"{article} {adjective_here} {rest}" if adjective_here else place
            opening = "" if opening in PRAISE else opening
        else:
            core = f"{adjective_here} {place}" if adjective_here else place
            opening = opening[2:] if opening in PRAISE else opening
        core += f" at {AT_TIME.get(time_words, time_words)}"
    elif form == 3:  # a lake, evening, purple sky
        core = f"{place}, {time_words}" + (f", {palette} sky" if palette else "")
        opening = "" if opening in PRAISE else opening
    elif form == 4 and subject_words:  # a cactus in front of sand dunes at noon
        link = choose(["near", "and", "with", "in front of"])
        core = f"{subject_words} {link} {place} at {AT_TIME.get(time_words, time_words)}"
        subject_words = ""
        opening = "" if opening in PRAISE else opening
    elif form in (6, 7):  # northern lights over a lake; a lighthouse
        weather_words = choose(WEATHERS[weather]) if says(0.85 if weather != "clear" else 0.4) else ""
        things = [words for words in (weather_words if weather != "clear" else "", body_words, subject_words) if words]
        core = choose(things) if things else place
        if core == body_words:
            body_words = ""
        if core == subject_words:
            subject_words = ""
        if things and (form == 6 or thorough):
            core += f" {choose(['over', 'over', 'above', 'near', 'and'])} {place}"
        if says(0.3):
            core += f" at {AT_TIME.get(time_words, time_words)}"
        opening = "" if opening in PRAISE else opening
    else:  # a teal night sky above the city
        core = f"{palette} {SKIES[time]} sky {choose(['over', 'above'])} {place}".strip()
        if opening not in PRAISE and chance(0.5):
            core = f"a {core}"

    text = opening + core
    details = [body_words, subject_words]
    if weather_words and weather_words not in text:
        details.append(weather_words)
    elif form < 6 and (weather == "aurora" or adjective and adjective not in text):
        details.append(choose(WEATHERS[weather]))
    if palette and palette not in text:
        details.append(choose(["{} sky", "{} colors"]).format(palette))
    details = [detail for detail in details if detail]
    rng.shuffle(details)
    if details and chance(0.6):
        text += f" with {' and '.join(details[:2])}" + "".join(f", {detail}" for detail in details[2:])
    elif details:
        text += "".join(f", {detail}" for detail in details)
    return " ".join(text.split())


# Words that say nothing about what is in the picture.
FILLER = set("""a an the and of on in at to with near over above front picture painting photo drawing view beautiful
    stunning""".split())


def known_words():
    """Every word that the model was taught the meaning of, sorted: a prompt with none of them is not understood."""
    tables = [PLACES, SUBJECTS, BODIES, TIMES, ADJECTIVES, WEATHERS]
    phrases = [phrase for table in tables for options in table.values() for phrase in options]
    phrases += [*WHERE.values(), *SKIES.values(), *ATTRIBUTES["palette"], *BALLOONS, "colorful colors sunny sky"]
    words = {word for phrase in phrases for word in phrase.replace("{}", "").split()}
    return sorted(words - FILLER - {"rainbow"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from scenes import random_scene

    for i in range(arguments.count):
        generator = np.random.default_rng([arguments.seed, i])
        print(caption(random_scene(generator), generator))
