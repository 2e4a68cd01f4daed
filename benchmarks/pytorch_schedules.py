"""Write the learning rates of PyTorch's schedulers, for `tests/test_schedules.py` to compare ours with.

Command: `python -m benchmarks.pytorch_schedules tests/fixtures/pytorch_schedules.json`.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from torch.optim import lr_scheduler

EPOCHS = 200
BASE = 1e-3


def traces() -> dict[str, list[float]]:
    """Return made-up validation accuracies: what plateaus, ties and small steps look like."""
    return {
        "saturating": [round(0.8 - 0.6 * math.exp(-epoch / 30), 6) for epoch in range(EPOCHS)],
        "wavy": [round(0.5 + 0.3 * math.sin(epoch / 9) + epoch / 2000, 6) for epoch in range(EPOCHS)],
        "few clips": [round((3 + (7 * epoch) % 5 + epoch // 60) / 12, 6) for epoch in range(EPOCHS)],
        "flat": [0.25] * EPOCHS,
        "zero, then something": [0.0] * 30 + [0.1] * (EPOCHS - 30),
    }


def rates(scheduler_class: type, accuracies: list[float] | None = None, **options) -> list[float]:
    """Return the learning rate of each epoch under a scheduler that is stepped once after every epoch."""
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    scheduler = scheduler_class(optimizer, **options)
    found = []
    for epoch in range(EPOCHS):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(*([] if accuracies is None else [accuracies[epoch]]))
    return found


def cases() -> list[dict]:
    """Return every scheduler, its parameters by the names of ours, and its rates."""
    found = []
    for step, factor in ((10, 0.1), (7, 0.5)):
        values = rates(lr_scheduler.StepLR, step_size=step, gamma=factor)
        found.append({"schedule": "step", "parameters": {"step_epochs": step, "factor": factor}, "rates": values})
    for cycle, longer, minimum in ((20, 1, 0.0), (10, 2, 1e-5), (13, 3, 1e-4)):
        values = rates(lr_scheduler.CosineAnnealingWarmRestarts, T_0=cycle, T_mult=longer, eta_min=minimum)
        found.append(cosine_case(cycle, longer, minimum, values))
    # Without restarts the one cycle is as long as the training.
    values = rates(lr_scheduler.CosineAnnealingLR, T_max=EPOCHS, eta_min=1e-5)
    found.append(cosine_case(EPOCHS, 1, 1e-5, values))
    for accuracies in traces().values():
        for patience, factor in ((10, 0.1), (2, 0.5)):
            options = {"mode": "max", "patience": patience, "factor": factor}
            values = rates(lr_scheduler.ReduceLROnPlateau, accuracies, **options)
            parameters = {"patience_epochs": patience, "factor": factor}
            found.append({"schedule": "plateau", "parameters": parameters, "accuracies": accuracies, "rates": values})
    return found


def cosine_case(cycle: int, longer: int, minimum: float, values: list[float]) -> dict:
    """Return a case of `CosineRestarts`."""
    parameters = {"cycle_epochs": cycle, "cycle_factor": longer, "minimum": minimum}
    return {"schedule": "cosine", "parameters": parameters, "rates": values}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    content = {"torch": torch.__version__, "base": BASE, "cases": cases()}
    out.write_text(json.dumps(content) + "\n")


if __name__ == "__main__":
    main()
