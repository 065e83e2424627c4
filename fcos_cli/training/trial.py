"""A dry run: two steps of a training, nothing written."""

import time

import torch

from fcos_cli.errors import UsageError
from fcos_cli.recipe.load import load_recipe
from fcos_cli.runtime.precision import choose_device
from fcos_cli.training.distributed import world
from fcos_cli.training.log import TrainingLog
from fcos_cli.training.opening import WHICH_RECIPE, TrainingRequest, check_batch
from fcos_cli.training.setup import make_loader, prepare


def dry_run(request: TrainingRequest) -> dict[str, object] | None:
    """Tries a training without writing anything: loads all, does two steps, and tells what the whole would take.

    Returns figures by name on the main process, None on the others.
    """
    if request.recipe is None:
        raise UsageError("which recipe?", WHICH_RECIPE)
    loaded = load_recipe(request.recipe, request.overrides)
    with world(choose_device(request.device)) as here:
        check_batch(loaded.recipe, here.size)
        trainer, train_data, val_data = prepare(loaded.recipe, here, TrainingLog(None, here.main))
        batches = iter(make_loader(train_data, loaded.recipe, here, 0))
        trainer.model.train()
        trainer.step(next(batches))  # the first step also builds what later ones reuse
        trainer.state()
        batch = next(batches)
        started = time.perf_counter()
        trainer.step(batch)
        trainer.state()
        seconds = time.perf_counter() - started
    iterations = loaded.recipe.schedule.iterations
    plan: dict[str, object] = {
        "recipe": loaded.name,
        "device": str(here.device),
        "precision": trainer.precision.name,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "train_images": len(train_data),
        "val_images": len(val_data),
        "classes": len(train_data.categories),
        "batch_size": loaded.recipe.train.batch_size,
        "learning_rate": loaded.recipe.learning_rate,
        "iterations": iterations,
        "epochs": round(iterations * loaded.recipe.train.batch_size / max(1, len(train_data)), 2),
        "seconds_per_iteration": round(seconds, 3),
        "estimated_hours": round(seconds * iterations / 3600, 3),
    }
    if here.device.type == "cuda":
        plan["peak_memory_gib"] = round(torch.cuda.max_memory_allocated(here.device) / 2**30, 2)
    return plan if here.main else None
