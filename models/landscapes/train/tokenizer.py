"""CLIP's byte-level byte-pair encoding, trained on our captions until every word of theirs is one token.

    python3 tokenizer.py --run DIR                 -> DIR/tokenizer/vocab.json, merges.txt (CLIPTokenizer's layout)
    python3 tokenizer.py --run DIR --copy FOLDER   takes the tokenizer of an exported model

A caption becomes <start> words <end>, cut at 32 tokens and padded with <end>. Text is lower-cased, split
into words, numbers and punctuation, and each piece into bytes, which merges then join; so any text at all
can be encoded, and words that the model never saw come out in many pieces.
"""
import argparse
import collections
import json
import re
import shutil
from pathlib import Path

import numpy as np

from networks import CONTEXT_LENGTH

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[a-z]+|[0-9]|[^\sa-z0-9]+", re.IGNORECASE)


def byte_symbols():
    """A printable character for each byte, in CLIP's order of the vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    symbols = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in symbols:
            symbols[byte] = chr(256 + len(symbols) - len(printable))
    return symbols


def split_word(word, symbols):
    pieces = [symbols[byte] for byte in word.encode()]
    pieces[-1] += WORD_END
    return pieces


def merge(pieces, pair):
    out, i = [], 0
    while i < len(pieces):
        if tuple(pieces[i:i + 2]) == pair:
            out.append(pieces[i] + pieces[i + 1])
            i += 2
        else:
            out.append(pieces[i])
            i += 1
    return out


class Tokenizer:
    def __init__(self, folder):
        folder = Path(folder)
        self.vocabulary = json.loads((folder / "vocab.json").read_text())
        lines = (folder / "merges.txt").read_text().split("\n")[1:]
        self.ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(filter(None, lines))}
        self.symbols = byte_symbols()
        self.cache = {}

    def encode_word(self, word):
        if word not in self.cache:
            pieces = split_word(word, self.symbols)
            while len(pieces) > 1:
                pair = min(zip(pieces, pieces[1:]), key=lambda p: self.ranks.get(p, float("inf")))
                if pair not in self.ranks:
                    break
                pieces = merge(pieces, pair)
            self.cache[word] = [self.vocabulary[piece] for piece in pieces]
        return self.cache[word]

    def encode(self, text):
        """CONTEXT_LENGTH ids"""
        ids = [self.vocabulary[START]]
        for word in PIECES.findall(text.lower()):
            ids += self.encode_word(word)
        end = self.vocabulary[END]
        ids = ids[:CONTEXT_LENGTH - 1] + [end]
        return ids + [end] * (CONTEXT_LENGTH - len(ids))


def train(words):
    """words: Counter -> (vocabulary, merges). Merges the most frequent pair until each word is one token."""
    symbols = byte_symbols()
    corpus = [(split_word(word, symbols), count) for word, count in words.items()]
    merges = []
    while True:
        pairs = collections.Counter()
        for pieces, count in corpus:
            for pair in zip(pieces, pieces[1:]):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        corpus = [(merge(pieces, best), count) for pieces, count in corpus]
    alphabet = list(symbols.values())
    tokens = alphabet + [s + WORD_END for s in alphabet] + ["".join(pair) for pair in merges] + [START, END]
    return {token: i for i, token in enumerate(tokens)}, merges


def main(run, captions):
    from captions import EXTRA_WORDS, caption
    from renderer import random_scene

    words = collections.Counter()
    for i in range(captions):
        rng = np.random.default_rng(5_000_000 + i)
        words.update(PIECES.findall(caption(random_scene(rng), rng)))
    words.update(EXTRA_WORDS)
    vocabulary, merges = train(words)
    folder = Path(run) / "tokenizer"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    print(f"{len(words)} words, {len(merges)} merges, a vocabulary of {len(vocabulary)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of this training run")
    parser.add_argument("--captions", type=int, default=20000, help="captions to learn from")
    parser.add_argument("--copy", help="model folder whose tokenizer to take")
    arguments = parser.parse_args()
    if arguments.copy:
        shutil.copytree(Path(arguments.copy) / "tokenizer", Path(arguments.run) / "tokenizer", dirs_exist_ok=True)
    else:
        main(arguments.run, arguments.captions)
