"""Runs an exported model on pictures, and writes a table and heat maps. Used by `infer.py` and the command
`paddlepatch`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .calibration import RATE_HELP
from .command_line.parser import ALL, Arguments, Parser, command_line, natural, positive, rate, threads
from .command_line.progress import progress
from .command_line.script import run_script
from .drift import Drift
from .engine import ENGINES, LOCAL, RAY, ray_predictor
from .errors import UserError
from .pictures.listing import list_pictures
from .predictor import Predictor
from .results.description import header_text, levels_text, recorded
from .results.tables import ScoreSheet, picture_namer, provenance_columns
from .results.watch import watch
from .runtime.program import Runtime
from .serve import serve
from .serve.settings import BATCH, MIB, MODELS, Job, Settings, named, parse_address

if TYPE_CHECKING:
    from .engine.parts import Listed
    from .engine.ray_data import RayPredictor


def console() -> NoReturn:
    """Run `main` as the command `paddlepatch`, which `pip install .` installs."""
    run_script(partial(main, "paddlepatch"))


def main(program: str = "infer.py") -> int:
    """Parse the options, load the export, score, write; return the exit code. `program` is its name for the user."""
    parser = Parser(
        prog=program,
        usage=f"{command_line(program, {})} --stats FILE --input_file PICTURE|FOLDER [OPTIONS]",
        description="Run an exported model on pictures: a table and heat maps. Needs the exported files alone.",
    )
    parser.group("data", '--input_file "pictures/*.png"')
    parser.add_argument("-i", "--input_file", default=None, help="picture, folder, 'pattern*.png', or list, .txt")
    parser.add_argument("--watch", default=None, help="instead: a folder whose pictures are scored as they arrive")
    parser.add_argument("--serve", default=None, metavar="[HOST:]PORT", help="instead: answer over HTTP")
    parser.group("model", "--stats exported/bottle/stats")
    parser.add_argument(
        "--stats",
        nargs="+",
        required=True,
        help="the stats file of the export; with --serve, several, NAME=FILE, or FOLDER",
    )
    parser.add_argument("--model_file", default=None, help="default: model.json or model.pdmodel beside the stats")
    parser.add_argument("--params_file", default=None, help="default: model.pdiparams beside the model file")
    parser.group("results", "--threshold 0.55 --save_mask --jsonl")
    parser.add_argument(
        "--save_path", default="./output/infer", help="receives infer.csv and heatmaps/, or watch.csv and watch/"
    )
    parser.add_argument("--threshold", type=float, default=None, help="scaled score above which it is a defect (0.5)")
    parser.add_argument("--false_alarm", type=rate, default=None, help=f"{RATE_HELP}; the model's own if not given")
    parser.flag("enable_drift", False, "say when good pictures no longer look as when the model was fitted")
    parser.pictures("write a heat map per picture")
    parser.files_for_machines()
    parser.flag("jsonl", False, "write a .jsonl file beside every table")
    parser.flag("parquet", False, "write a .parquet file beside infer.csv")
    parser.group("running", "--batch_size 4 --cpu_threads 2 --enable_benchmark")
    parser.add_argument("-b", "--batch_size", type=positive, default=1, help=f"pictures per run ({BATCH} with --serve)")
    parser.add_argument("--engine", choices=ENGINES, default=LOCAL, help="ray: scored by a cluster of workers")
    parser.add_argument(
        "--max_body", type=positive, default=32, metavar="MIB", help="largest file of a picture that --serve accepts"
    )
    parser.add_argument(
        "--max_waiting", type=positive, default=64, help="most pictures that wait for a model, with --serve"
    )
    parser.add_argument(
        "--max_models", type=positive, default=MODELS, help="most models of a folder that stay loaded, with --serve"
    )
    for name in ("max_body", "max_waiting", "max_models"):
        parser.only_with(name, "serve")
    parser.flag("use_gpu", False, "run on the GPU (unmeasured)")
    parser.add_argument("--gpu", type=natural, default=None, help="run on the GPU of this number (unmeasured)")
    parser.add_argument("--gpu_mem", type=positive, default=4000, help="MiB that the GPU pool starts with")
    parser.flag("use_tensorrt", False, "run on TensorRT (unmeasured)")
    parser.flag("enable_mkldnn", True, "use oneDNN on the CPU")
    parser.add_argument("--cpu_threads", type=threads, default=None, help="CPU threads; one per core if not given")
    parser.add_argument("--num_workers", type=natural, default=None, help="decoding threads; one per core if not given")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the computation")
    parser.flag("ir_optim", True, "let Paddle Inference optimise the graph")
    parser.flag("enable_benchmark", False, "print times and memory in AutoLog's format")
    parser.add_argument("--model_name", default=None, help="names the model in --enable_benchmark's report")
    parser.no_effect("config", "this script reads no configuration file", "-c")
    parser.no_effect("category", "the stats file says what the model is")
    parser.no_effect("seed", "nothing is random here")
    parser.no_effect("enable_post_process", "the program itself scores")
    args = parser.parse()

    if sum(way is not None for way in (args.input_file, args.watch, args.serve)) != 1:
        raise UserError("give one of --input_file, --watch and --serve")
    if args.serve is None and len(args.stats) > 1:
        raise UserError("--stats: give one export; several are for --serve")
    if args.watch and (args.jsonl or args.parquet or args.enable_benchmark or args.save_regions):
        moot = "--jsonl, --parquet, --save_regions and --enable_benchmark"
        raise UserError(f"--watch writes watch.csv alone: leave out {moot}")
    if args.gpu is not None and "use_gpu" in args.given and not args.use_gpu:
        raise UserError(f"--use_gpu False and --gpu {args.gpu} contradict each other: leave out one of them")
    runtime = Runtime(
        use_gpu=args.use_gpu or args.gpu is not None,
        gpu=args.gpu or 0,
        onednn=args.enable_mkldnn,
        threads=args.cpu_threads,
        precision=args.precision,
        tensorrt=args.use_tensorrt,
        gpu_mem=args.gpu_mem,
        ir_optim=args.ir_optim,
    )
    if args.serve is not None and args.engine == LOCAL:
        return serve(server_settings(args, runtime))
    predictor, pictures = opened(args, runtime)
    print(header_text(predictor.header, predictor.shapes, *recorded(predictor.header)), flush=True)
    levels = predictor.calibration.at(args.threshold, scaled=True, false_alarm=args.false_alarm)
    if args.false_alarm is not None:
        print(levels_text(levels), flush=True)
    told = {name: getattr(args, name) for name in ("batch_size", "precision", "save_path")}
    sheet = ScoreSheet(
        Path(args.save_path),
        "watch" if args.watch else "infer",
        levels,
        predictor.preprocess,
        provenance_columns(predictor.header, parser.command(args, told)),
        args.save_pic == ALL,
        args.save_mask,
        args.jsonl,
        args.parquet,
        pictures="watch" if args.watch else "",
        regions=args.min_area if args.save_regions else None,
        maps=args.save_map,
    )
    drift = Drift(levels.scores, levels.brightness) if args.enable_drift else None
    with sheet:
        if args.watch:
            return watch(args.watch, predictor, sheet, drift)
        begin, name = time.perf_counter(), picture_namer(pictures) if sheet.places else str
        predictions = predictor.predict(pictures, args.batch_size, args.num_workers, sheet.skip)
        for prediction in progress(predictions, len(pictures), "infer"):
            sheet.add(prediction, name(prediction.name))
            if drift is not None:
                drift.add(prediction.score, prediction.brightness)
        code = sheet.finish()
    if args.engine == RAY:
        predictor.finish()
    if drift is not None:
        print(drift)
    if args.enable_benchmark:
        label = args.model_name or predictor.header["method"]
        for line in predictor.times.report(label, runtime, args.batch_size, time.perf_counter() - begin):
            print(line)
    return code


def opened(args: Arguments, runtime: Runtime) -> tuple[Predictor | RayPredictor, list[Listed]]:
    """Return the loaded export, and the pictures to be scored."""
    if args.engine == RAY:
        cluster = ray_predictor(args, runtime)
        return cluster, cluster.pictures(args.input_file)
    pictures = [] if args.input_file is None else list_pictures(args.input_file)
    predictor = Predictor.load(args.stats[0], args.model_file, args.params_file, runtime)
    print(f"program: {predictor.program.name}, self-check {predictor.selfcheck:.1e}")
    return predictor, pictures


NO_FILES = (
    *("save_path", "save_pic", "save_mask", "save_map", "save_regions", "jsonl", "parquet"),
    *("enable_drift", "enable_benchmark", "model_name"),
)
"""Options that have no meaning for a server."""


def server_settings(args: Arguments, runtime: Runtime) -> Settings:
    """Return the settings of a server from the options; UserError for options that do not fit."""
    moot = [name for name in NO_FILES if name in args.given]
    if moot:
        raise UserError(f"--serve answers requests and writes no files: leave out --{' --'.join(moot)}")
    batch_size = args.batch_size if "batch_size" in args.given else BATCH
    files = args.model_file, args.params_file, runtime
    levels = args.threshold, args.false_alarm, args.min_area
    processes = {
        process: {name: Job(stats, *files, *levels, batch_size, args.num_workers) for name, stats in models.items()}
        for process, models in named(args.stats).items()
    }
    return Settings(parse_address(args.serve), processes, args.max_models, args.max_body * MIB, args.max_waiting)
