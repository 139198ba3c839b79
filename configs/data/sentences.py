"""Opinions by a small grammar, as tokens; the config text_classification.yaml reads them.

    the plot was not good and the music was very bad

Each clause counts +1 or -1, twice with `very`, with the opposite sign after `not` and `hardly`; the
class is the sign of the sum. Sentences whose sum is 0 are left out. A class cannot be told from
single words, for the sign of an adjective depends on the word before it.
"""

import numpy as np

NOUNS = ["plot", "music", "cast", "ending", "story", "camera"]
GOOD = ["good", "great", "clever", "moving"]
BAD = ["bad", "dull", "poor", "tired"]
ADVERBS = {"": 1, "very": 2, "not": -1, "hardly": -1}
WORDS = ["", "the", "was", "and", "very", "not", "hardly", *NOUNS, *GOOD, *BAD]  # 0 is padding
LENGTH = 17  # of three clauses of five words, joined by `and`


def load(examples: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns tokens, int32 (examples, LENGTH), and labels: 1 for a good opinion, else 0."""
    rng = np.random.default_rng(seed)
    numbers = {word: i for i, word in enumerate(WORDS)}
    tokens = np.zeros((examples, LENGTH), np.int32)
    labels = np.zeros(examples, np.int32)
    filled = 0
    while filled < examples:
        words, score = _sentence(rng)
        if score:
            tokens[filled, : len(words)] = [numbers[word] for word in words]
            labels[filled] = score > 0
            filled += 1
    return tokens, labels


def _sentence(rng: np.random.Generator) -> tuple[list[str], int]:
    words: list[str] = []
    score = 0
    for clause in range(rng.integers(1, 4)):
        adverb, adjective = str(rng.choice(list(ADVERBS))), str(rng.choice(GOOD + BAD))
        said = ["and"] * bool(clause) + ["the", str(rng.choice(NOUNS)), "was", adverb, adjective]
        words += [word for word in said if word]
        score += ADVERBS[adverb] * (1 if adjective in GOOD else -1)
    return words, score
