"""Compiled backbones without a method, with random weights."""

from __future__ import annotations

import numpy as np

from deploy.runtime.program import Program, Runtime, save_program
from deploy.storage.files import scratch_folder
from models.backbones.backbone import Backbone
from models.backbones.weights import RANDOM
from models.graph.compiled import image_spec

from ..onnx_graph import backbone_gflop
from ..report import Stage
from ..subject import Subject
from ..timing import in_turns


def run(subject: Subject) -> Stage:
    """Measure `--archs` with `--layers`, one picture at a time; the others are compared with the first."""
    size = subject.preprocess.crop_size
    stage = Stage("backbones", f"backbones at {' '.join(subject.layers)}, {size} x {size}, one at a time", "picture")
    image = np.random.default_rng(subject.seed).standard_normal((1, 3, size, size)).astype(np.float32)
    backbones = {arch: Backbone(arch, subject.layers, size, RANDOM, subject.seed) for arch in subject.archs}
    programs = {arch: compiled(backbone, size, subject.runtime) for arch, backbone in backbones.items()}
    calls = {arch: lambda program=program: program.run(image) for arch, program in programs.items()}
    work = {arch: backbone_gflop(backbone, size) for arch, backbone in backbones.items()}
    stage.add(in_turns(calls, subject.rounds, calls=10), gflop=work)
    for arch in subject.archs[1:]:
        stage.compare(arch, subject.archs[0])
    return stage


def compiled(backbone: Backbone, size: int, runtime: Runtime) -> Program:
    """Compile the backbone as a program of its own."""
    with scratch_folder() as folder:
        return Program(*save_program(backbone, [image_spec(size)], folder), runtime)
