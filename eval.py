"""Evaluate saved models on their categories' test pictures.

python eval.py --data_path DATA --category bottle --method patchcore --arch resnet18 --k 10 --eval_PRO
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

import options
from datasets.readers.labelled import labelled_pictures
from deploy.calibration import RATE_HELP
from deploy.command_line.parser import Arguments, Parser, rate
from deploy.command_line.progress import progress
from deploy.command_line.script import run_script
from deploy.errors import Failed, UserError
from evaluation.chapter import evaluated
from evaluation.decisions import BEST_F1, Decisions, Goal
from evaluation.labelled import calibrated
from evaluation.publish import check_published, publish
from evaluation.report import Report, seeds_table, write_report, write_seeds_report
from evaluation.run import Wanted
from models import Detector, load_model, model_text
from models.distributed.launch import check_alone

GOALS = "f1, recall=0.95, precision=0.9, or miss_cost=10, where a miss costs 10 false alarms"


def main() -> int:
    parser = Parser(prog="eval.py", usage="python %(prog)s [OPTIONS]", description=__doc__)
    options.add_data_option(parser, "the folder that holds the categories", several=True)
    options.add_model_options(parser, several=True)
    options.add_size_options(parser)
    parser.no_effect("batch_size", "--test_batch_size sets the pictures per run")
    options.add_evaluation_options(parser)
    parser.add_argument("--false_alarm", type=rate, default=None, help=f"{RATE_HELP}; the model's own if not given")
    parser.flag("enable_drift", False, "say whether good test pictures look as when the model was fitted")
    parser.group("threshold from labelled pictures", "--calibrate labelled.csv --goal recall=0.95")
    parser.add_argument(
        "--calibrate",
        default=None,
        metavar="PICTURES",
        help="set the model's threshold by these: a folder with good/ and others, or a .csv with path,label",
    )
    parser.add_argument("--goal", type=Goal.parse, default=BEST_F1, help=f"what it is set for: {GOALS}")
    parser.only_with("goal", "calibrate")
    options.add_precision_option(parser)
    options.add_run_options(parser)
    args = parser.parse()
    check_alone("eval.py")

    check_published(args)
    categories = options.categories(args)
    if args.model_path is not None and len(categories) > 1:
        raise UserError(
            f"--model_path is one model, --category {args.category} are {len(categories)}: name one category"
        )
    if args.calibrate is not None and len(categories) > 1:  # pictures of one product say nothing of the others
        raise UserError(
            f"--calibrate sets one category's threshold, --category {args.category} are {len(categories)}: name one"
        )
    reports, seeds = [], options.asked_seeds(args)
    failed, log = Failed(len(seeds) * len(categories)), partial(print, flush=True)
    by_name = {category.name: category for category in categories}
    files = [options.model_files(args, list(by_name), seed, failed) for seed in seeds]  # before any is evaluated
    for found in files:
        report, seed, chapters = Report(), options.shared_seed(list(found.values())), []
        for name, path in found.items():
            category = by_name[name]
            with failed.noted(name):
                model = load_model(path, options.runtime(args))
                options.check_model(args, model, path)
                print(f"== {name}: {model_text(model)}", flush=True)
                if args.calibrate is not None:
                    calibrate(args, model, path)
                folder = options.results_folder(args, model, path)
                command = options.command(parser, args, model)
                own = {"false_alarm": args.false_alarm, "watch_drift": args.enable_drift}
                wanted = Wanted.of(args, **own)
                chapters.append(evaluated(model, path, category, folder, command, wanted, report, log))
        if report.rows:
            table = write_report(folder / seeds_table(args.category, [seed]), report)
            print(f"figures: {table}")
            publish(table, chapters, args)
        reports.append(report)
    if len(seeds) > 1 and not failed:
        path = options.run_folder(args) / seeds_table(args.category, seeds)
        print(f"mean and deviation: {write_seeds_report(path, reports)}")
    return failed.finish()


def calibrate(args: Arguments, model: Detector, path: Path) -> None:
    """Set the thresholds of the model, which was read from `path`, by the labelled pictures of --calibrate."""
    labelled = labelled_pictures(args.calibrate)
    paths, truth = [path for path, _ in labelled], np.array([defective for _, defective in labelled])
    predictions = model.predict(paths, args.test_batch_size, args.num_workers)
    scores = np.array([p.score for p in progress(predictions, len(paths), "labelled")])
    model.set_thresholds(calibrated(model.calibration, paths, scores, truth, args.goal), path)
    found = Decisions.at(model.calibration.image_threshold, scores, truth)
    print(f"{model.calibration}; in {path}\n{found}", flush=True)


if __name__ == "__main__":
    run_script(main)
