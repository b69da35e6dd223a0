"""PaDiM's program compared with the same computation in ONNX Runtime, and with its backbone alone."""

from __future__ import annotations

from ..engines import missing, onnxruntime
from ..flat import flat_padim
from ..onnx_graph import backbone_gflop
from ..report import Stage
from ..subject import Subject
from ..timing import in_turns
from .backbones import compiled
from .search import TOLERANCE, errors

OURS, BACKBONE, FLAT = "our program", "backbone alone", "flat graph, ONNX Runtime fp32"


def run(subject: Subject) -> Stage:
    """Measure them in turns, one picture at a time; AssertionError unless both compute the same."""
    stage = Stage("padim", "PaDiM, 100 channels, one picture at a time", "picture")
    model, size = subject.fitted("padim", subject.category), subject.preprocess.crop_size
    program, backbone = subject.scorer("padim", subject.category), compiled(model.backbone, size, subject.runtime)
    images = subject.test_images(subject.category)
    calls = {BACKBONE: lambda: backbone.run(images[-1]), OURS: lambda: program.run(images[-1])}
    why = missing("onnx", "onnxruntime")
    if why:
        stage.skip(FLAT, why)
    else:
        flat = onnxruntime(flat_padim(model), subject.threads)
        found = errors([program.run(image) for image in images], [flat(image) for image in images])
        stage.notes.append(
            f"ours and flat: scores differ by {found[0]:.1e}, maps by {found[1]:.1e}, relatively, at most"
        )
        if max(found) > TOLERANCE:
            raise AssertionError(f"the flat PaDiM graph computes something else: {found}")
        calls[FLAT] = lambda: flat(images[-1])
    work = backbone_gflop(model.backbone, size)
    held = [model.fitted[name] for name in model.parts()]
    gaussian = 2e-9 * sum(part.size for part in held)
    both = {BACKBONE: work, OURS: work + gaussian, FLAT: work + gaussian}
    times = in_turns(calls, subject.rounds, calls=3)
    rest = "our program minus backbone"
    times[rest] = [ours - alone for ours, alone in zip(times[OURS], times[BACKBONE])]
    stage.add(
        times, both, {rest: 1e-9 * sum(part.nbytes for part in held)}, notes={rest: "reads the Gaussians from memory"}
    )
    stage.compare(OURS, FLAT, BACKBONE)
    return stage
