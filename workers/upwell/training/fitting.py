"""A training step in, a trained model out: the loop around it, with time limit, progress, checkpoints and resumption.

A run that is interrupted leaves a checkpoint (safetensors: weights, optimisers' states, step), and goes on from it as if
nothing had happened: all chance is drawn from the seed and the step's number.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

SAVE_EVERY_S: Final = 30.0
"""Between checkpoints."""
EMA_DECAY: Final = 0.995


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a run may be, and with what."""

    steps: int = 4000
    minutes: float = 6.0
    """Of this run: one that is resumed has them again."""
    seed: int = 7
    threads: int = 1
    batch: int = 32


@dataclass(slots=True)
class Trainee:
    """What a checkpoint holds: modules and their optimisers by name, steps done, the losses so far."""

    modules: dict[str, nn.Module]
    optimizers: dict[str, torch.optim.Optimizer]
    averaged: dict[str, str] = field(default_factory=dict)
    """Module to the one that holds its moving average (Yaz et al. 2019)."""
    step: int = 0
    seconds: float = 0.0
    curves: dict[str, list[float]] = field(default_factory=dict)
    """Mean of each loss over the steps between two points."""


Step = Callable[[int, torch.Generator], Mapping[str, float]]
"""Number and source of chance in, named losses out."""
Say = Callable[[int, int, Mapping[str, float]], None]
"""Step, steps in all (as far as time lets), mean losses since the last time."""


def fit(trainee: Trainee, step: Step, limits: Limits, checkpoint: Path, say: Say, every: int = 25) -> bool:
    """Run steps until there are enough or the time is over; whether it was interrupted (Ctrl-C)."""
    torch.set_num_threads(limits.threads)
    began = last_saved = time.monotonic()
    before, pending = trainee.seconds, dict[str, list[float]]()
    try:
        while trainee.step < limits.steps:
            for module in trainee.modules.values():
                module.train()
            chance = torch.Generator().manual_seed(limits.seed * 1_000_003 + trainee.step)
            losses = step(trainee.step, chance)
            trainee.step += 1
            _average(trainee)
            for name, value in losses.items():
                pending.setdefault(name, []).append(value)
            now = time.monotonic()
            trainee.seconds = before + now - began
            over = now - began >= limits.minutes * 60
            if trainee.step % every == 0 or over or trainee.step == limits.steps:
                means = {name: sum(values) / len(values) for name, values in pending.items()}
                pending.clear()
                for name, value in {"step": float(trainee.step), **means}.items():
                    trainee.curves.setdefault(name, []).append(value)
                say(trainee.step, limits.steps, means)
            if now - last_saved >= SAVE_EVERY_S:
                save(trainee, checkpoint)
                last_saved = now
            if over:
                break
    except KeyboardInterrupt:
        save(trainee, checkpoint)
        return True
    save(trainee, checkpoint)
    return False


def _average(trainee: Trainee) -> None:
    decay = min(EMA_DECAY, trainee.step / (trainee.step + 10))
    with torch.no_grad():
        for source, target in trainee.averaged.items():
            new, old = trainee.modules[source].state_dict(), trainee.modules[target].state_dict()
            for name, value in old.items():
                value.lerp_(new[name], 1 - decay) if value.is_floating_point() else value.copy_(new[name])


def save(trainee: Trainee, path: Path) -> None:
    """Write the checkpoint, whole or not at all."""
    from safetensors.torch import save_file

    arrays = {
        f"{name}/{key}": _copy(value)
        for name, module in trainee.modules.items()
        for key, value in module.state_dict().items()
    }
    for name, optimizer in trainee.optimizers.items():
        for number, state in optimizer.state_dict()["state"].items():
            arrays |= {f"{name}//{number}/{key}": _copy(value) for key, value in state.items()}
    about = {"step": trainee.step, "seconds": trainee.seconds, "curves": trainee.curves}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    save_file(arrays, draft, metadata={"about": json.dumps(about)})
    draft.replace(path)


def _copy(value: Any) -> Any:
    return torch.as_tensor(value).detach().clone(memory_format=torch.contiguous_format)


def resume(trainee: Trainee, path: Path) -> None:
    """Go on from a checkpoint.

    Raises:
        ValueError: it is of a model of another shape.
    """
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    try:
        for name, module in trainee.modules.items():
            mine = f"{name}/"
            module.load_state_dict({k.removeprefix(mine): v for k, v in arrays.items() if k.startswith(mine)})
        for name, optimizer in trainee.optimizers.items():
            states: dict[int, dict[str, Any]] = {}
            for key, value in arrays.items():
                if key.startswith(f"{name}//"):
                    number, leaf = key.removeprefix(f"{name}//").split("/")
                    states.setdefault(int(number), {})[leaf] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    except RuntimeError as error:
        raise ValueError(f"{path.name} is of another model: {error}") from None
    trainee.step, trainee.seconds, trainee.curves = about["step"], about["seconds"], about["curves"]
