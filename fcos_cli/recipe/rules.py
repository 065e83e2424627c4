"""Contradictions between keys: choices that are each allowed and cannot hold together.

Every rule yields the keys it judges and one line: what clashes, and what to set instead. Allowed on purpose:
`extra_from` without P6 and P7 (it has no effect), a box loss weighted by centre-ness without the branch (its targets
need no branch), more detections than candidates of a level (there are several levels).
"""

from collections.abc import Iterator

from fcos_cli.method.interface import Clash, Tables
from fcos_cli.method.registry import assigner_of, head_of, losses_of
from fcos_cli.method.registry import tables as tables_of
from fcos_cli.recipe.keys import toml_value
from fcos_cli.recipe.schema import DataConfig, Recipe


def contradictions(recipe: Recipe) -> list[Clash]:
    """Everything in a recipe that cannot hold together; [] is a sound recipe."""
    rules = (_frozen_random, _pyramid, _methods, _sizes, _schedule, _batch)
    return [clash for rule in rules for clash in rule(recipe)]


def _frozen_random(recipe: Recipe) -> Iterator[Clash]:
    backbone = recipe.model.backbone
    if backbone.weights or recipe.model.weights:
        return
    sources = ("model.backbone.weights", "model.weights")
    if backbone.norm == "frozen_bn":
        yield Clash(
            ("model.backbone.norm", *sources),
            'model.backbone.norm = "frozen_bn" without weights would freeze BatchNorm at random: set '
            'model.backbone.weights (see `fcos weights list`), or model.backbone.norm = "bn" or "gn"',
        )
    if backbone.frozen_stages > 0:
        yield Clash(
            ("model.backbone.frozen_stages", *sources),
            f"model.backbone.frozen_stages = {backbone.frozen_stages} without weights would freeze random layers: set "
            "model.backbone.weights, or model.backbone.frozen_stages = 0",
        )


def _pyramid(recipe: Recipe) -> Iterator[Clash]:
    pyramid = recipe.model.pyramid
    levels, ranges = "model.pyramid.levels", "model.pyramid.ranges"
    try:
        pyramid.model_copy(update={"ranges": None}).geometry()
    except ValueError as error:
        yield Clash((levels,), f"{levels} = {toml_value(pyramid.levels)}: {error}")
        return
    try:
        pyramid.geometry()
    except ValueError as error:
        count = (
            f" ({levels} = {toml_value(pyramid.levels)})" if len(pyramid.ranges or ()) != len(pyramid.levels) else ""
        )
        yield Clash((levels, ranges), f"{ranges} = {toml_value(pyramid.ranges)}: {error}{count}")


def _methods(recipe: Recipe) -> Iterator[Clash]:
    """What the parts of methods say themselves, and what an assigner gives that the losses have no use for."""
    tables = Tables(recipe.assign, recipe.model.head, recipe.loss, recipe.model.pyramid.channels)
    assigner, losses = assigner_of(tables.assign), losses_of(tables.loss)
    for part in (assigner, head_of(tables.head), losses):
        yield from part.rule(tables)
    keys, assign, loss = ("assign.name", "loss.name"), tables.assign.name, tables.loss.name
    if unused := assigner.gives - losses.takes:
        mend = f'loss.name = "{assign}"' if assign in tables_of("losses") else f'assign.name = "{loss}"'
        text = f'assign.name = "{assign}" gives {" and ".join(sorted(unused))}, which loss.name = "{loss}" does not use'
        yield Clash(keys, f"{text}: set {mend}")
    if missing := losses.needs - assigner.gives:
        mend = f'assign.name = "{loss}"' if loss in tables_of("assigner") else f'loss.name = "{assign}"'
        text = (
            f'loss.name = "{loss}" needs {" and ".join(sorted(missing))}, which assign.name = "{assign}" does not give'
        )
        yield Clash(keys, f"{text}: set {mend}")


def _sizes(recipe: Recipe) -> Iterator[Clash]:
    low, high = short_sides(recipe.data)
    if low > high:
        yield Clash(
            ("data.short_side",), f"data.short_side = [{low}, {high}] is [smallest, largest]: set [{high}, {low}]"
        )
    for table, short, long in (
        ("data", max(low, high), recipe.data.long_side),
        ("test", recipe.test.short_side, recipe.test.long_side),
    ):
        if short > long:
            yield Clash(
                (f"{table}.short_side", f"{table}.long_side"),
                f"{table}.short_side = {short} is above {table}.long_side = {long}: set {table}.long_side >= {short}",
            )


def short_sides(data: DataConfig) -> tuple[int, int]:
    """Smallest and largest short side in training, in pixels."""
    return data.short_side if isinstance(data.short_side, tuple) else (data.short_side, data.short_side)


def _schedule(recipe: Recipe) -> Iterator[Clash]:
    schedule = recipe.schedule
    end = schedule.iterations
    if schedule.decay == "step" and schedule.steps:
        steps = toml_value(schedule.steps)
        if any(later <= earlier for earlier, later in zip(schedule.steps, schedule.steps[1:], strict=False)):
            yield Clash(("schedule.steps", "schedule.decay"), f"schedule.steps = {steps} must ascend")
        elif schedule.steps[-1] >= end:
            suggestion = toml_value(sorted({max(1, end * 2 // 3), max(1, end * 8 // 9)})) if end > 2 else "[]"
            yield Clash(
                ("schedule.steps", "schedule.decay", "schedule.iterations"),
                f"schedule.steps = {steps} reach beyond schedule.iterations = {end}: set schedule.steps = {suggestion}",
            )
    if schedule.warmup != "none" and schedule.warmup_iterations > end:
        yield Clash(
            ("schedule.warmup_iterations", "schedule.warmup", "schedule.iterations"),
            f"schedule.warmup_iterations = {schedule.warmup_iterations} is longer than schedule.iterations = {end}: "
            f"set schedule.warmup_iterations = {end // 10}",
        )


def _batch(recipe: Recipe) -> Iterator[Clash]:
    batch, passes = recipe.train.batch_size, recipe.train.accumulate
    if batch % passes:
        yield Clash(
            ("train.batch_size", "train.accumulate"),
            f"train.accumulate = {passes} does not divide train.batch_size = {batch}: passes are equal",
        )
