"""Where and how precisely a run computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from scrimp.errors import ScrimpError
from scrimp.kernels.dispatch import has_fast_bf16
from scrimp.training import cards, parallel


@dataclass(frozen=True)
class Place:
    """A device and its precision."""

    device: torch.device
    bf16: bool = False

    @classmethod
    def of(cls, device: torch.device, precision: Literal["auto", "fp32", "bf16"]) -> Place:
        """`auto` is bf16 on a GPU that has it, and fp32 on every CPU: what its flags offer must not change a number."""
        return cls(device, precision == "bf16" or (precision == "auto" and device.type == "cuda" and has_fast_bf16(device)))

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def choose_device(wanted: Literal["auto", "cpu", "cuda"], gpus: int, take: bool = True) -> torch.device:
    """The device a run computes on; `auto` takes CUDA where the scale asks for a GPU and one is there.

    Of several cards it is a free one, which then is this process's until it ends; without `take` the first one is looked at,
    whoever has it. Each of torchrun's processes has the card of its own number, and does not wait for it.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ScrimpError(
            "device is cuda, but torch sees no GPU: set `device: auto` in config/config.yaml, or use --device cpu"
        )
    use_cuda = wanted == "cuda" or (wanted == "auto" and gpus > 0 and torch.cuda.is_available())
    if not use_cuda:
        return torch.device("cpu")
    index = 0
    if take:
        names = cards.cards()
        if (local := parallel.local_rank()) is None:
            index = cards.take(names)
        else:  # two torchruns that waited for each other's cards would wait for ever
            index = local % len(names)
            cards.take(names[index : index + 1], wait=False)
    torch.cuda.set_device(index)
    return torch.device("cuda", index)
