"""Assignment, losses and gradients of a training step against those of other programs."""

import pytest
import torch

from fcos_cli.model.fcos import FCOS

AUTHORS = ("fcos-orig-base", "fcos-orig-imprv")
MMDETECTION = (
    "mmdet-fcos-base-caffe",
    "mmdet-fcos-improved-caffe",
    "mmdet-fcos-improved-torch",
    "mmdet-fcos-improved-r18-nmspre",
    "mmdet-fcos-dcn-caffe",
)
AVERAGING = "adet-fcos/moving_fg_iouloss_nocenter"
LEARNS_IOU = "adet-fcos/quality_iou"
SIZES = torch.tensor([[150, 200], [170, 180]])


def runs_of(opened):
    """The authors' code fails on images without boxes; the others have all three."""
    return ("train",) if opened.name in AUTHORS else ("train", "train_empty", "train_none")


def from_record(case, name):
    """A case, an untrained model of its recipe, whose scales are 1, and the recorded outputs, before the activation."""
    opened = case(name)
    outputs = opened.recorded_outputs("train/raw")
    if opened.recipe.model.head.box_activation == "exp":
        outputs["box"] = [distance.log() for distance in outputs["box"]]
    return opened, FCOS(opened.recipe.model, 5), outputs


def divisors(opened, term, positives):
    """What each run's sum is divided by, where it is a moving average: detectron2 starts at 300 in each of the runs,
    AdelaiDet goes on from one to the next. None: by the positives of the step, as here."""
    if opened.name == "d2-fcos":
        return [0.9 * 300 + 0.1 * count for count in positives]
    if opened.name != AVERAGING or term != "classification":
        return None
    averages = [100.0]
    for count in positives:
        averages.append(0.9 * averages[-1] + 0.1 * count)
    return averages[1:]


def losses_of_all_runs(opened, step, model, outputs):
    """{term: float64 [runs]}, divided as the program divides."""
    results = [step(opened.recipe, model, outputs, opened.targets(run), SIZES) for run in runs_of(opened)]
    positives = [max(float(assignment.positives), 1.0) for assignment, _ in results]
    terms = {}
    for term in results[0][1]:
        terms[term] = torch.stack([losses[term].detach().double() for _, losses in results])
        if (averages := divisors(opened, term, positives)) is not None:
            terms[term] *= torch.tensor(positives, dtype=torch.float64) / torch.tensor(averages, dtype=torch.float64)
    return terms


def recorded(opened, term, kind):
    """Tensor [runs] of a recorded loss; its dtype tells what it was computed in."""
    return torch.stack([opened.recorded_losses(run, kind)[term] for run in runs_of(opened)])


@pytest.mark.parametrize("name", [*AUTHORS, "adet-fcos", "d2-fcos", *MMDETECTION])
def test_every_location_learns_the_same_box(case, step, name):
    opened, model, outputs = from_record(case, name)
    for run in runs_of(opened):
        targets = opened.targets(run)
        assignment, _ = step(opened.recipe, model, outputs, targets, SIZES)
        for image, rows in enumerate(assignment.index.long()):
            local = torch.where(rows >= 0, rows - targets.offsets[image], rows)
            assert torch.equal(local, opened.recorded_index(run, image)), (run, image)


@pytest.mark.parametrize("name", [*AUTHORS, "adet-fcos", AVERAGING, "d2-fcos", *MMDETECTION])
def test_losses_of_their_outputs(case, step, name):
    """The same float32 outputs, the same losses but for the rounding of theirs; all terms of all runs."""
    opened, model, outputs = from_record(case, name)
    for term, ours in losses_of_all_runs(opened, step, model, outputs).items():
        torch.testing.assert_close(ours, recorded(opened, term, "loss").double(), rtol=1e-5, atol=0)


@pytest.fixture(scope="module")
def forward(case):
    """Function: case -> it, our network in float64 with its weights, and the outputs for the batch of both images."""
    made = {}

    def run(name):
        if name not in made:
            opened = case(name)
            model = opened.model(torch.float64).train()
            made[name] = opened, model, model(opened.pixels(opened.images, torch.float64))
        return made[name]

    return run


@pytest.mark.parametrize("name", [*AUTHORS, "adet-fcos", "adet-fcos/thresh_with_ctr", LEARNS_IOU, AVERAGING])
def test_losses_from_pixels_on(forward, step, name):
    """In float64; their targets are float32, and fvcore's focal loss is."""
    opened, model, outputs = forward(name)
    for term, ours in losses_of_all_runs(opened, step, model, outputs).items():
        if (name, term) != (LEARNS_IOU, "quality"):
            theirs = recorded(opened, term, "loss64")
            rtol = 1e-7 if theirs.dtype == torch.float64 else 1e-6
            torch.testing.assert_close(ours, theirs.double(), rtol=rtol, atol=0)


@pytest.mark.xfail(strict=True, reason="AdelaiDet's quality learns (I + 1) / (U + 1), in strides; ours the plain IoU")
def test_a_quality_that_learns_the_iou(forward, step):
    opened, model, outputs = forward(LEARNS_IOU)
    ours = losses_of_all_runs(opened, step, model, outputs)["quality"]
    torch.testing.assert_close(ours, recorded(opened, "quality", "loss64"), rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", [*AUTHORS, "adet-fcos"])
def test_gradients_of_all_parameters(forward, step, name):
    """Their norms, in float64 but for fvcore's focal loss: through losses, head, pyramid and backbone."""
    opened, model, outputs = forward(name)
    rtol = 1e-5 if name == "adet-fcos" else 1e-6
    for run in runs_of(opened):
        model.zero_grad()
        _, losses = step(opened.recipe, model, outputs, opened.targets(run), SIZES)
        sum(losses.values()).backward(retain_graph=True)
        theirs = opened.recorded_gradient_norms(run)
        parameters = {key: value for key, value in model.named_parameters() if value.requires_grad}
        assert parameters.keys() == theirs.keys()
        for key, parameter in parameters.items():
            ours = parameter.grad if key == "head.scales" else parameter.grad.norm()
            torch.testing.assert_close(
                ours.abs(), theirs[key].to(ours), rtol=rtol, atol=1e-9, msg=lambda m, k=key: f"{k}: {m}"
            )
