"""Running the trainer in several processes that meet in the work folder, and picking up where a run left off."""

from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing
from tokenizers import Tokenizer

from tools.train_nano.batches import Shape, stream
from tools.train_nano.model import Nano, NanoConfig
from tools.train_nano.trainer import Recipe, Trainer

_CHECKPOINT, _MEETING_PLACE = "checkpoint.pt", "rendezvous"


def train(world: int, recipe: Recipe, tokenizer: Tokenizer, work: Path) -> None:
    """Train in `world` processes until `recipe.steps` are done, keeping a checkpoint in `work`."""
    (work / _MEETING_PLACE).unlink(missing_ok=True)
    torch.multiprocessing.spawn(_work, args=(world, recipe, tokenizer.to_str(), work), nprocs=world)


def _work(rank: int, world: int, recipe: Recipe, tokenizer_json: str, work: Path) -> None:
    """What each of the `world` processes does."""
    torch.set_num_threads(1)
    if world > 1:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{(work / _MEETING_PLACE).absolute()}", rank=rank, world_size=world
        )
    trainer = start_or_resume(recipe, Tokenizer.from_str(tokenizer_json), work, rank, world)
    shape = Shape(recipe.steps, recipe.total_steps, recipe.step_tokens, recipe.micro_tokens, recipe.max_length)
    trainer.run(stream(tokenizer_json, recipe.seed, trainer.step, shape), work / _CHECKPOINT)


def start_or_resume(recipe: Recipe, tokenizer: Tokenizer, work: Path, rank: int = 0, world: int = 1) -> Trainer:
    """A trainer at the start, or where the checkpoint left off."""
    torch.manual_seed(recipe.seed)
    model = Nano(NanoConfig(vocab_size=tokenizer.get_vocab_size()))
    trainer = Trainer(model, recipe, rank, world)
    if (work / _CHECKPOINT).exists():
        trainer.load(work / _CHECKPOINT)
    return trainer
