"""A process that makes blocks of showers: a `Child` of `caloforge.generation.workers`.

It says that it has started, and gets the checkpoint and how it computes; then energies go out for each block
that comes in.
"""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import torch

from caloforge.checkpoint.checkpoint import Checkpoint
from caloforge.generation.blocks import Block, make_showers, wanted_energies
from caloforge.runtime.memory import peak_memory_mib
from caloforge.runtime.processes import Channel, serve

__all__ = ["work"]


def work(channel: Channel) -> None:
    """Make blocks until there are no more orders."""
    torch.set_num_threads(1)
    channel.send({"started": True})
    orders = iter(channel)
    setting = next(orders, None)
    if setting is None:  # the parent has finished meanwhile
        return
    sys.path += [folder for folder in setting["path"] if folder not in sys.path]
    checkpoint: Checkpoint = pickle.loads(setting["bytes"])
    model = checkpoint.model("cpu", *setting["execution"])
    with torch.inference_mode(), ThreadPoolExecutor(1) as sender:  # the parent may be making a block itself
        for order in orders:
            block: Block = pickle.loads(order["bytes"])
            energies = wanted_energies(model, make_showers(model, setting["seed"], block.inputs), block)
            peak = peak_memory_mib(model.device)
            sender.submit(channel.send, {"peak_memory_mib": peak}, energies.tobytes())


if __name__ == "__main__":
    sys.exit(serve(work))
