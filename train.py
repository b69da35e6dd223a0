"""Fit one model per category from good pictures, and optionally evaluate it.

python train.py --data_path DATA --category bottle --method patchcore --arch resnet18 --k 10 --eval --eval_PRO
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable

import options
from datasets.readers import Category
from datasets.readers.category import draw
from datasets.readers.layouts import layout_of
from deploy.command_line.parser import NONE, Arguments, Parser
from deploy.command_line.progress import TimedLog
from deploy.command_line.script import run_script
from deploy.errors import Failed, Skipped, UserError
from deploy.pictures.preprocess import Preprocess
from deploy.results.panels import write_panels
from deploy.storage.files import exclusive
from evaluation.chapter import Chapter, evaluated
from evaluation.publish import check_published, publish
from evaluation.report import Report, seeds_table, write_report, write_seeds_report
from evaluation.run import Wanted
from evaluation.times import write_times
from models import Detector, changed_since_fit, is_finished, load_model, model_text
from models.backbones.weights import RANDOM
from models.distributed.job import Job
from models.distributed.launch import check_alone, launched
from models.presets import Preset
from models.threads import one_thread


def main() -> int:
    parser = options.train_parser(__doc__)
    args = parser.parse()

    check_published(args)
    if args.update is not None:
        return update(args, parser)
    preset, categories = options.settle(args), options.categories(args)
    with launched(options.runtime(args).use_gpu) as group:
        job = Job(group, [len(category.train_pictures()) for category in categories])
        if job.apart and (args.report or args.log):
            raise UserError("--report, --log: processes with a category each cannot write them: give them to eval.py")
        return run(args, parser, preset, categories, job)


def run(args: Arguments, parser: Parser, preset: Preset, categories: list[Category], job: Job) -> int:
    """Train on all categories and seeds, as a process of the job; return the exit code."""
    folder = options.run_folder(args) if args.save_model_subfolder else Path(args.save_path)
    command, seeds = options.command(parser, args), options.seeds(args)
    print(f"{options.run_name(args)}: {', '.join(category.name for category in categories)}")
    reports, failed = [], Failed(job.parts(len(seeds)))
    for seed in seeds:
        own = folder
        if len(seeds) > 1:
            print(f"seed {seed}")
            own = options.seed_folder(folder, seed)
        reports.append(train(args, preset, categories, seed, own, command, failed, job))
    failed[:] = job.group.joined(failed) if job.apart else failed
    if args.eval and len(seeds) > 1 and not failed and job.leads:
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
    job: Job,
) -> Report:
    """Fit a model per category in `folder`, evaluate it if --eval is given, and return the figures.

    If one category fails, the others are still fitted.
    """
    report, chapters, table = Report(), [], folder / seeds_table(args.category, [seed])
    build = options.builder(args, seed)
    with job.held(lambda: exclusive(folder)):
        for category in job.own(categories):
            with failed.noted(category.name):
                log = TimedLog()
                if args.eval:
                    category.test_pictures()  # raises an error if there are none, now and not after the fit
                model = fit(args, preset, category, seed, folder, command, log, job, build)
                if args.eval and job.writes:
                    chapters.append(evaluate(args, model, category, table, command, report, log))
                    if not job.apart:
                        write_report(table, report)
        if job.apart:
            report = report.of_all(job.group.joined, [category.name for category in categories])
            if job.leads and report.rows:
                write_report(table, report)
    if report.rows and job.leads:
        print(f"figures: {table}")
    publish(table, chapters, args)
    return report


@one_thread
def save(args: Arguments, model: Detector, path: Path, command: str, log: TimedLog) -> None:
    """Write heat maps of the least usual training pictures, times, and last the model: then the fit is finished."""
    if args.save_pic != NONE and args.update is None:
        place = path.with_suffix("") / "odd"
        write_panels(place, "train", model.odd(), model.calibration, model.preprocess)
        log(f"heat maps of the training pictures least like the rest: {place}")
    write_times(path, model.stages.seconds, model.header, command)
    log(f"model: {model.save(path, command)}")


def evaluate(
    args: Arguments, model: Detector, category: Category, table: Path, command: str, report: Report, log: TimedLog
) -> Chapter:
    """Evaluate the model on the category; write results beside `table`, add the figures to `report`."""
    wanted, path = Wanted.of(args), table.parent / f"{category.name}.safetensors"
    return evaluated(model, path, category, table.parent, command, wanted, report, log)


def update(args: Arguments, parser: Parser) -> int:
    """Add the category's good pictures to the model of --update, and write the result like a trained model."""
    path, log = Path(args.update), TimedLog()
    check_alone("--update")
    model = options.check_update(args, load_model(path, options.runtime(args)), path)
    category = options.update_category(args, path)
    print(f"== {category.name}: {model_text(model)}", flush=True)
    if model.calibration.labelled is not None:
        print("the threshold that labelled pictures set is given up: set it again with eval.py --calibrate")
    skipped, rate = Skipped(), args.false_alarm if "false_alarm" in args.given else None
    if args.forget:
        model.forget(args.forget, log)
    if options.adds(args):
        pictures, on_bad = category.train_pictures(), skipped if args.skip_bad else None
        model.update(pictures, args.batch_size, args.num_workers, on_bad, log, rate, args.max_size)
    print(model_text(model) + skipped.told(), flush=True)
    command = options.command(parser, args, model)
    folder = options.results_folder(args, model, path) if args.save_model_subfolder else Path(args.save_path)
    with exclusive(folder):
        if args.save_model:
            save(args, model, folder / f"{category.name}.safetensors", command, log)
        if args.eval:
            table, report = folder / seeds_table(category.name, [model.seed]), Report()
            chapter = evaluate(args, model, category, table, command, report, log)
            write_report(table, report)
            publish(table, [chapter], args)
    return 0


def fit(
    args: Arguments,
    preset: Preset,
    category: Category,
    seed: int,
    folder: Path,
    command: str,
    log: TimedLog,
    job: Job,
    build: Callable[[Preprocess], Detector],
) -> Detector:
    """Fit a model on the category's good pictures and save it in `folder`; if an earlier run finished it, load it.

    `build` is the result of `options.builder`. If several processes fit the model together, rank 0 saves it, and the
    model that other ranks return must not be used.
    """
    pictures = draw(category.train_pictures(), args.shots, seed)
    print(f"== {category.name} (layout {layout_of(category)}): {len(pictures)} good pictures to fit on", flush=True)
    model = build(options.preprocess(args, preset, pictures, log))
    print(f"weights: {', '.join(backbone.source for backbone in model.backbones())}", flush=True)
    if RANDOM in (args.weights or []):
        print("WARNING: RANDOM BACKBONE WEIGHTS. Figures below say nothing about the method; use pretrained ones.")
    skipped, path = Skipped(), folder / f"{category.name}.safetensors"
    on_bad = skipped if args.skip_bad else None
    kept = args.save_model and job.writes
    kept = kept and is_finished(model, path, pictures, args.num_workers, on_bad, args.false_alarm)
    if any(job.fitting.joined([kept])):
        log(f"kept: {path} was fitted before on the same pictures with the same settings{skipped.told()}")
        return load_model(path, options.runtime(args)) if job.writes else model
    lost = changed_since_fit(path) if args.save_model and job.writes else ""
    if lost:
        log(f"note: {path} is fitted again, without {lost}")
    skipped.clear()
    model.group = job.fitting
    model.fit(pictures, args.batch_size, args.num_workers, on_bad, log, args.false_alarm)
    print(model_text(model) + skipped.told(), flush=True)
    if job.fitting.size > 1:
        log(job.fitting.told())
    if args.save_model and job.writes:
        save(args, model, path, command, log)
    return model


if __name__ == "__main__":
    run_script(main)
