"""How long backbones take on this machine, compiled and measured in turns, so that all see the same machine.

python -m models.speed resnet18 compact --size 224
"""

from __future__ import annotations

import time

import numpy as np

from deploy.errors import run_script
from deploy.files import scratch_folder
from deploy.options import Parser, positive
from deploy.program import Program, Runtime, save_program

from .backbone import ARCHS, Backbone
from .compiled import image_spec
from .weights import RANDOM


def main() -> int:
    """Print median and least milliseconds per picture of each backbone, and their ratio to the first one's."""
    parser = Parser(prog="python -m models.speed", description=__doc__)
    parser.add_argument("archs", nargs="+", choices=ARCHS, metavar="ARCH", help="backbones; the first is the measure")
    parser.add_argument("--layers", nargs="+", default=["layer1", "layer2", "layer3"], help="what is read of each")
    parser.add_argument("--size", type=positive, default=224, help="of the picture, in pixels")
    parser.add_argument("--rounds", type=positive, default=30, help="turns, of ten pictures each")
    parser.add_argument("--cpu_threads", type=positive, default=None, help="one per core if not given")
    parser.flag("enable_mkldnn", True, "use oneDNN")
    args = parser.parse()

    image = np.random.default_rng(0).standard_normal((1, 3, args.size, args.size)).astype(np.float32)
    runtime = Runtime(onednn=args.enable_mkldnn, threads=args.cpu_threads)
    programs = {arch: program(arch, args.layers, args.size, runtime) for arch in args.archs}
    times: dict[str, list[float]] = {arch: [] for arch in args.archs}
    for _ in range(args.rounds):
        for arch, compiled in programs.items():
            compiled.run(image)  # its code and weights are in the cache from here on
            for _ in range(10):
                begin = time.perf_counter()
                compiled.run(image)
                times[arch].append(1e3 * (time.perf_counter() - begin))
    measure = np.median(times[args.archs[0]]), np.min(times[args.archs[0]])
    for arch, taken in times.items():
        middle, least = np.median(taken), np.min(taken)
        ratio = f"{middle / measure[0]:.3f} and {least / measure[1]:.3f} of {args.archs[0]}"
        print(f"{arch}: median {middle:.2f} ms, least {least:.2f} ms: {ratio}", flush=True)
    return 0


def program(arch: str, layers: list[str], size: int, runtime: Runtime) -> Program:
    """The backbone with random weights, compiled."""
    with scratch_folder() as folder:
        files = save_program(Backbone(arch, layers, size, RANDOM), [image_spec(size)], folder)
        return Program(*files, runtime)


if __name__ == "__main__":
    run_script(main)
