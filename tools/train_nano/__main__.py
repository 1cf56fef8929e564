"""The command that makes the model: `python -m tools.train_nano --out DIR`."""

import argparse
from dataclasses import replace
from pathlib import Path

from tokenizers import Tokenizer

from tools.train_nano.export import export
from tools.train_nano.processes import start_or_resume, train
from tools.train_nano.tokenizer import train_tokenizer
from tools.train_nano.trainer import Recipe


def main() -> None:
    """Train (or resume) and export; with `--export-only`, export what the checkpoint holds."""
    defaults = Recipe()
    parser = argparse.ArgumentParser(prog="python -m tools.train_nano", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--work", type=Path, default=Path("build/train_nano"), help="folder of checkpoints")
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--device", default=defaults.device, help="cpu or cuda")
    parser.add_argument("--processes", type=int, default=2, help="processes that share the work, on a CPU")
    parser.add_argument("--export-only", action="store_true")
    arguments = parser.parse_args()

    recipe = replace(defaults, steps=arguments.steps, seed=arguments.seed, device=arguments.device)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(arguments.work / "tokenizer.json", recipe.seed)
    if not arguments.export_only:
        world = arguments.processes if recipe.device == "cpu" else 1
        train(world, recipe, tokenizer, arguments.work)
    trainer = start_or_resume(recipe, tokenizer, arguments.work)
    export(trainer.model, tokenizer, arguments.out)
    print(f"steps {trainer.step}, tokens read {trainer.tokens_read}, learned {trainer.tokens_learned}")
    print(f"{trainer.seconds:.0f} s of training; model in {arguments.out}")


def _tokenizer(path: Path, seed: int) -> Tokenizer:
    if not path.exists():
        train_tokenizer(seed).save(str(path))
    return Tokenizer.from_file(str(path))


if __name__ == "__main__":
    main()
