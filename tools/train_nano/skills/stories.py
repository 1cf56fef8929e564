"""Short stories from a small grammar: each is coherent because its hero, thing, place and helper are chosen once."""

from random import Random

from tools.train_nano.sample import Check, Exchange
from tools.train_nano.words import ANIMALS, COLOURS, FOODS, OBJECTS, PLACES, listed, person

_ASK = [
    "Tell me a story about {topic}.", "Tell a short story about {topic}.", "Write a short story about {topic}.",
    "Please tell me a story about {topic}.", "A story about {topic}, please.", "Can you tell me a story about {topic}?",
]  # fmt: skip
_ASK_ANY = ["Tell me a story.", "Tell me a short story.", "Write a short story.", "A story, please."]
_TRAITS = listed("brave kind curious clever quiet cheerful patient gentle")


def make(rng: Random) -> Exchange:
    """A story of about 120 words; held out by hero and topic."""
    kind, hero, thing, place = rng.choice(ANIMALS), person(rng), rng.choice(OBJECTS), rng.choice(PLACES)
    helper_kind = rng.choice([animal for animal in ANIMALS if animal != kind])
    helper, colour, food, trait = person(rng), rng.choice(COLOURS), rng.choice(FOODS), rng.choice(_TRAITS)
    article = "an" if kind == "owl" else "a"
    topic, needles = rng.choice(
        (
            (f"{article} {kind} named {hero}", [hero, kind]),
            (f"{article} {kind} called {hero}", [hero, kind]),
            (f"{hero} the {kind}", [hero, kind]),
            (f"{article} {kind} and a {thing}", [kind, thing]),
            (f"{article} {kind}", [kind]),
            (f"{article} {kind} named {hero} and a {thing}", [hero, kind, thing]),
        )
    )
    if rng.random() < 0.1:
        question, needles = rng.choice(_ASK_ANY), []
    else:
        question = rng.choice(_ASK).format(topic=topic)
    sentences = [
        rng.choice(
            (
                f"Once upon a time there was {article} {kind} named {hero}.",
                f"Once there lived {article} {kind} named {hero}.",
            )
        ),
        rng.choice(
            (f"{hero} was {trait} and lived near a {place}.", f"{hero} lived in a {place} and was very {trait}.")
        ),
        rng.choice(
            (
                f"More than anything {hero} loved a little {colour} {thing}.",
                f"{hero} owned a {colour} {thing} and took it everywhere.",
                f"One day {hero} found a {colour} {thing} beside the path.",
            )
        ),
        rng.choice(
            (
                f"One windy morning the {thing} was gone.",
                f"But one night a storm came and carried the {thing} away.",
                f"One morning {hero} woke up and could not find the {thing}.",
            )
        ),
        rng.choice(
            (
                f"{hero} looked under the bed, behind the door and all over the {place}, but there was nothing.",
                f"{hero} was sad, but a {trait} {kind} does not give up.",
                f"{hero} searched the whole {place} until the sun went down.",
            )
        ),
        rng.choice(
            (
                f"Then {hero} met a {helper_kind} named {helper}.",
                f"On the way {hero} met {helper}, an old {helper_kind}.",
            )
        ),
        rng.choice(
            (
                f'"Why are you so sad?" asked {helper}.',
                f'"What are you looking for?" asked {helper}.',
                f'"Can I help you?" asked {helper}.',
            )
        ),
        rng.choice((f'"I lost my {colour} {thing}," said {hero}.', f'"My {thing} is gone," said {hero}.')),
        rng.choice(
            (
                f"They shared some {food} and began to search together.",
                f'"Let us look together," said {helper}, and off they went.',
                f"{helper} thought for a while and pointed to a tall tree.",
            )
        ),
        rng.choice(
            (
                f"At last they saw something {colour} high in a tree, and it was the {thing}.",
                f"Soon they found the {thing} under a pile of leaves.",
                f"There, between two stones, lay the {colour} {thing}.",
            )
        ),
        rng.choice(
            (
                f"{hero} was so happy that they danced until the stars came out.",
                f"{hero} thanked {helper} and gave the {helper_kind} some {food}.",
                f"{hero} laughed and hugged {helper}.",
            )
        ),
        rng.choice(
            (
                f"From that day on {hero} and {helper} were the best of friends.",
                f"And {hero} never forgot that a friend is better than a {thing}.",
                f"That night {hero} slept well, with the {thing} close by and a new friend in the {place}.",
            )
        ),
    ]
    return Exchange(f"{hero}/{kind}/{thing}", question, " ".join(sentences), Check("story", needles))
