"""Fit one model per category from good pictures, and optionally evaluate it.

python train.py --data_path DATA --category bottle --method patchcore --arch resnet18 --k 10 --eval --eval_PRO
"""

from __future__ import annotations

import time
from pathlib import Path

import options
from datasets.readers.mvtec import Category, select_categories
from deploy.calibration import FALSE_ALARM, RATE_HELP
from deploy.command_line.parser import Arguments, Parser, positive, rate
from deploy.command_line.script import run_script
from deploy.errors import Failed, Skipped
from deploy.results.tables import provenance_columns
from evaluation.report import Report, seeds_table, summary, write_report, write_seeds_report
from evaluation.run import evaluate_category
from models import Detector, build_model, model_text
from models.backbones.weights import RANDOM
from models.presets import Preset


def main() -> int:
    parser = Parser(prog="train.py", usage="python %(prog)s [OPTIONS]", description=__doc__)
    options.add_data_option(parser, "the folder that holds the categories", several=True)
    options.add_model_options(parser, several=True, seed=521)
    parser.group("model")
    parser.add_argument("--layers", nargs="+", default=None, help="backbone layers; for an ensemble A,B per backbone")
    parser.add_argument("--weights", nargs="+", default=None, help="backbone weights (.pdparams), or 'random'")
    parser.flag("save_model", True, "write the model")
    parser.flag("save_model_subfolder", True, "write below {method}_{arch}_{k}, not straight into --save_path")
    parser.add_argument("--false_alarm", type=rate, default=FALSE_ALARM, help=RATE_HELP)
    options.add_size_options(parser, sets=True)
    parser.flag("skip_bad", False, "leave out pictures that cannot be read instead of stopping")
    options.add_method_options(parser)
    parser.group("evaluation", "--eval --eval_PRO")
    parser.flag("eval", False, "evaluate on the test pictures afterwards")
    options.add_evaluation_options(parser)
    options.add_run_options(parser)
    parser.add_argument("--batch_size", type=positive, default=8, help="pictures per run of the feature program")
    parser.no_effect("inc", "mean and covariance are always accumulated in one pass")
    parser.no_effect("einsum", "the distance is always one batched matrix product")
    parser.no_effect("debug", "errors carry their traceback without it")
    args = parser.parse()

    preset = options.settle(args)
    options.runtime(args).check()  # no category's fault
    folder = options.run_folder(args) if args.save_model_subfolder else Path(args.save_path)
    categories = select_categories(args.data_path, args.category)
    command, seeds = options.command(parser, args), options.seeds(args)
    print(f"{options.run_name(args)}: {options.names(categories)}")
    reports, failed = [], Failed(len(seeds) * len(categories))
    for seed in seeds:
        own = folder
        if len(seeds) > 1:
            print(f"seed {seed}")
            own = options.seed_folder(folder, seed)
        reports.append(train(args, preset, categories, seed, own, command, failed))
    if args.eval and len(seeds) > 1 and not failed:
        print(f"mean and deviation: {write_seeds_report(folder / seeds_table(args.category, seeds), reports)}")
    return failed.finish()


def train(
    args: Arguments,
    preset: Preset,
    categories: list[Category],
    seed: int,
    folder: Path,
    command: str,
    failed: Failed,
) -> Report:
    """A model per category in `folder`, and their figures if --eval was given; one that fails does not stop others."""
    report = Report()
    for category in categories:
        with failed.noted(category.name):
            train_one(args, preset, category, seed, folder, command, report)
    if report.rows:
        print(f"figures: {folder / seeds_table(args.category, [seed])}")
    return report


def train_one(
    args: Arguments, preset: Preset, category: Category, seed: int, folder: Path, command: str, report: Report
) -> None:
    """The model of a category, and, if --eval was given, its figures, added to the report and its table."""
    log = TimedLog()
    model = fit(args, preset, category, seed, log)
    if args.save_model:
        log(f"model: {model.save(folder / f'{category.name}.safetensors', command)}")
    if args.eval:
        provenance, limit = provenance_columns(model.header, command), options.pro_limit(args)
        batch, workers, pictures = args.test_batch_size, args.num_workers, args.save_pic
        row = evaluate_category(model, category, folder / category.name, provenance, batch, workers, limit, pictures)
        log(summary(row))
        report.rows.append(row)
        report.provenance.append(provenance)
        write_report(folder / seeds_table(args.category, [seed]), report)


class TimedLog:
    """Prints lines with the seconds since its creation."""

    def __init__(self) -> None:
        self.start = time.perf_counter()

    def __call__(self, text: str) -> None:
        """Print one line."""
        print(f"[{time.perf_counter() - self.start:6.1f} s] {text}", flush=True)


def fit(args: Arguments, preset: Preset, category: Category, seed: int, log: TimedLog) -> Detector:
    """A model of the category's good pictures."""
    print(f"== {category.name}", flush=True)
    pictures = category.train_pictures()
    model = build_model(
        args.method,
        **options.per_backbone(args),
        k=args.k,
        preprocess=options.preprocess(args, preset, pictures, log),
        seed=seed,
        runtime=options.runtime(args),
        **options.method_options(args),
    )
    print(f"weights: {', '.join(backbone.source for backbone in model.backbones())}", flush=True)
    if RANDOM in (args.weights or []):
        print("WARNING: RANDOM BACKBONE WEIGHTS. Figures below say nothing about the method; use pretrained ones.")
    skipped = Skipped()
    on_bad = skipped if args.skip_bad else None
    model.fit(pictures, args.batch_size, args.num_workers, on_bad, log, args.false_alarm)
    print(model_text(model) + (f"; {len(skipped)} pictures skipped" if skipped else ""), flush=True)
    return model


if __name__ == "__main__":
    run_script(main)
