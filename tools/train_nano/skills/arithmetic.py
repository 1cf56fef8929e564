"""Sums and differences of one- and two-digit numbers."""

from random import Random

from tools.train_nano.sample import Check, Exchange

_ADD = [
    "What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "{a}+{b}=", "{a} + {b} = ?", "Add {a} and {b}.",
    "What is {a} plus {b}?",
    "Calculate {a} + {b}.", "What's {a}+{b}?", "How much is {a} + {b}?", "Compute {a} plus {b}.", "{a}加{b}等于多少?",
    "{a}+{b}等于几?", "计算{a} + {b}。", "What is the sum of {a} and {b}?",
]  # fmt: skip
_SUBTRACT = [
    "What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "{a}-{b}=", "{a} - {b} = ?", "Subtract {b} from {a}.",
    "What is {a} minus {b}?", "Calculate {a} - {b}.", "What's {a}-{b}?", "How much is {a} - {b}?",
    "Compute {a} minus {b}.",
    "{a}减{b}等于多少?", "{a}-{b}等于几?", "计算{a} - {b}。",
]  # fmt: skip


def make(rng: Random) -> Exchange:
    """A sum or a difference; held out are (a, operation, b). The answer restates the problem, then solves it."""
    top = 99 if rng.random() < 0.85 else 9
    a, b = rng.randint(0, top), rng.randint(0, top)
    if rng.random() < 0.5:
        question, sign, result = rng.choice(_ADD), "+", a + b
    else:
        if a < b and rng.random() < 0.6:
            a, b = b, a
        question, sign, result = rng.choice(_SUBTRACT), "-", a - b
    problem = f"{a} {sign} {b}"
    return Exchange(problem, question.format(a=a, b=b), f"{problem} = {result}", Check("contains", [f"= {result}"]))
