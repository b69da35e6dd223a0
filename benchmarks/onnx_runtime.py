"""A fused export's ONNX file in ONNX Runtime, on CPU or GPU: does it say what Paddle says, and how fast.

    python benchmarks/onnx_runtime.py save --stats exported/gasket/stats --input_file parts/gasket/test --case case.npz
    python benchmarks/onnx_runtime.py run --model exported/gasket/model.onnx --case case.npz --provider cuda

`save` needs this repository and Paddle. `run` needs numpy and onnxruntime alone (for `cuda`: onnxruntime-gpu), so that
it can be copied to the machine that the ONNX file is meant for.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np

ROUNDS, WARM, SECONDS = 50, 5, 5.0
"""Number of timed runs per batch size, number of runs before them, and seconds after which no further run starts."""
BATCHES = (1, 8, 32)
EVERY = 4
"""Every fourth row and column of a map is compared."""
PROVIDERS = {
    "cpu": ["CPUExecutionProvider"],
    "cuda": [("CUDAExecutionProvider", {"use_tf32": 0})],
    "cuda-tf32": [("CUDAExecutionProvider", {"use_tf32": 1})],
}


def save(stats: Path, pictures: Path, case: Path) -> None:
    """Write inputs of the fused program, and their scores and maps by Paddle Inference on the CPU."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from deploy import Predictor
    from deploy.pictures.listing import list_pictures

    predictor = Predictor.load(stats)
    preprocess = predictor.preprocess
    inputs = [predictor.to_input(preprocess.crop(preprocess.resized(path))[None]) for path in list_pictures(pictures)]
    answers = [predictor.program.run(entered) for entered in inputs]
    np.savez_compressed(case, pictures=np.concatenate(inputs), **compared(answers))


def compared(answers: list[list[np.ndarray]]) -> dict[str, np.ndarray]:
    """Stack maps and scores of n pictures: `maps` [n, height / EVERY, width / EVERY] and `scores` [n]."""
    maps, scores = map(np.concatenate, zip(*answers))
    return {"maps": maps[:, ::EVERY, ::EVERY], "scores": scores}


def run(model: Path, case: Path, provider: str) -> str:
    """Return one line: the largest differences from Paddle's results, and milliseconds per batch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: its advice about paddle2onnx's graphs is very long
    session = onnxruntime.InferenceSession(str(model), options, providers=PROVIDERS[provider])
    if provider != "cpu" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise SystemExit(f"--provider {provider}: ONNX Runtime has {session.get_providers()} alone here")
    with np.load(case) as file:
        known = dict(file)
    pictures = known["pictures"]
    found = compared([session.run(None, {"image": picture[None]}) for picture in pictures])
    apart = {what: np.abs(values - known[what]).max() / known[what].max() for what, values in found.items()}
    times = []
    for batch in BATCHES:
        images, took = np.resize(pictures, (batch, *pictures.shape[1:])), []
        begin = time.perf_counter()
        while len(took) < WARM + ROUNDS and (len(took) <= WARM or time.perf_counter() - begin < SECONDS):
            start = time.perf_counter()
            session.run(None, {"image": images})
            took.append(time.perf_counter() - start)
        times.append(f"{batch}: {1e3 * statistics.median(took[WARM:]):.2f} ms")
    off = f"score {apart['scores']:.1e} map {apart['maps']:.1e} of the largest"
    return f"{provider:9} {off}; batch {', '.join(times)}"


def main() -> None:
    """Parse the options, and run `save` or `run`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    saving, running = verbs.add_parser("save"), verbs.add_parser("run")
    saving.add_argument("--stats", type=Path, required=True)
    saving.add_argument("--input_file", type=Path, required=True, help="a picture or a folder of them")
    running.add_argument("--model", type=Path, required=True, help="model.onnx")
    running.add_argument("--provider", nargs="+", choices=PROVIDERS, default=["cpu"])
    for verb in (saving, running):
        verb.add_argument("--case", type=Path, required=True, help="the pictures with Paddle's answers, npz")
    args = parser.parse_args()
    if args.verb == "save":
        save(args.stats, args.input_file, args.case)
    else:
        for provider in args.provider:
            print(run(args.model, args.case, provider), flush=True)


if __name__ == "__main__":
    main()
