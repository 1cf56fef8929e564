"""The draft of the model, a far smaller one that guesses what the model says: `python -m tools.train_nano.draft`.

It reads the conversations that the model learned from: at first as the model did, later to learn the model's own
distribution at each of the assistant's tokens (Hinton et al., 2015). One process of one thread trains it.
"""

import argparse
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from tools.train_nano.batches import Shape, stream
from tools.train_nano.export import export
from tools.train_nano.model import Nano, NanoConfig
from tools.train_nano.trainer import Learned, Recipe, Trainer, next_token_loss

SHAPE = NanoConfig(hidden_size=128, num_layers=2, num_heads=4, num_kv_heads=4, intermediate_size=384)
"""Two layers are the least that can copy: the first one tells each token what stands before it."""

_FIRST_NORM = 0.3
"""Of the final norm: with that embedding, 1 would begin with guesses that are far too sure."""

RECIPE = Recipe(steps=1100, polish_steps=60, step_tokens=3000, matrix_lr=1e-2)

TEXT_STEPS = RECIPE.steps
"""All but the polish learns from the text, which costs a third of asking the teacher."""


@dataclass(frozen=True)
class Distillation:
    """The loss of a draft: cross-entropy with what `teacher` says."""

    teacher: Nano

    def __call__(self, draft: Nano, batch: Learned) -> Tensor:
        """Summed over the tokens to be learned."""
        with torch.inference_mode():
            expected = batch.logits(self.teacher).softmax(-1)
        return F.cross_entropy(batch.logits(draft), expected.clone(), reduction="sum")


def load_model(folder: Path, config: NanoConfig) -> Nano:
    """The exported model in `folder`, in fp32."""
    model = Nano(config)
    model.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()})
    return model.eval()


def start_draft(teacher: Nano, seed: int) -> Nano:
    """A draft of `teacher` that has learned nothing, but whose embedding is the teacher's on its principal axes."""
    torch.manual_seed(seed)
    draft = Nano(SHAPE)
    embedding = teacher.model.embed_tokens.weight.detach()
    axes = torch.linalg.svd(embedding, full_matrices=False).Vh[: SHAPE.hidden_size]
    draft.model.embed_tokens.weight.data.copy_(embedding @ axes.T)
    draft.model.norm.weight.data.fill_(_FIRST_NORM)
    return draft


def main() -> None:
    """Train (or resume) and export."""
    parser = argparse.ArgumentParser(prog="python -m tools.train_nano.draft", description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished draft")
    parser.add_argument("--work", type=Path, default=Path("build/train_nano"), help="folder of checkpoints")
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    checkpoint = arguments.work / "draft.pt"
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    teacher = load_model(arguments.model, NanoConfig())
    trainer = Trainer(start_draft(teacher, RECIPE.seed), RECIPE)
    if checkpoint.exists():
        trainer.load(checkpoint)
    shape = Shape(RECIPE.steps, RECIPE.total_steps, RECIPE.step_tokens, RECIPE.micro_tokens, RECIPE.max_length)
    steps = stream(tokenizer.to_str(), RECIPE.seed, trainer.step, shape)
    for trainer.loss, end in ((next_token_loss, TEXT_STEPS), (Distillation(teacher), RECIPE.total_steps)):
        trainer.run(islice(steps, max(end - trainer.step, 0)), checkpoint)
    export(trainer.model, tokenizer, arguments.out)
    print(f"steps {trainer.step}, tokens read {trainer.tokens_read}, learned {trainer.tokens_learned}")
    print(f"{trainer.seconds:.0f} s of training; draft in {arguments.out}")


if __name__ == "__main__":
    main()
