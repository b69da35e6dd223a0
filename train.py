"""Fit one model per category from good pictures, and optionally evaluate it.

python train.py --data_path DATA --category bottle --method patchcore --arch resnet18 --k 10 --eval --eval_PRO
"""

from __future__ import annotations

from pathlib import Path

import options
from datasets.readers import Category
from datasets.readers.category import draw
from datasets.readers.layouts import layout_of
from deploy.calibration import FALSE_ALARM, RATE_HELP
from deploy.command_line.parser import NONE, Arguments, Parser, positive, rate
from deploy.command_line.progress import TimedLog
from deploy.command_line.script import run_script
from deploy.errors import Failed, Skipped, UserError
from deploy.results.panels import write_panels
from deploy.results.tables import provenance_columns
from deploy.storage.files import exclusive
from evaluation.chapter import Chapter
from evaluation.publish import check_published, publish
from evaluation.report import Report, seeds_table, summary, write_report, write_seeds_report
from evaluation.run import Wanted, evaluate_category
from evaluation.times import read_times, write_times
from models import Detector, build_model, is_finished, load_model, model_text
from models.backbones.weights import RANDOM
from models.presets import Preset
from models.threads import one_thread


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
    parser.add_argument("--shots", type=positive, default=None, help="learn from so many pictures, drawn by --seed")
    parser.flag("skip_bad", False, "leave out pictures that cannot be read instead of stopping")
    options.add_method_options(parser)
    parser.group("update", "--update output/patchcore_resnet18_3/bottle.safetensors --data_path new")
    parser.add_argument("--update", metavar="MODEL", default=None, help="add the pictures to this model, do not train")
    parser.add_argument("--forget", nargs="+", metavar="PICTURE", help="take these out of it first; alone without data")
    parser.add_argument(
        "--max_size", type=positive, default=None, help="patchcore: most rows of the bank then; spade: most pictures"
    )
    parser.group("evaluation", "--eval --eval_PRO")
    parser.flag("eval", False, "evaluate on the test pictures afterwards")
    options.add_evaluation_options(parser)
    options.add_run_options(parser)
    parser.add_argument("--batch_size", type=positive, default=8, help="pictures per run of the feature program")
    parser.no_effect("inc", "mean and covariance are always accumulated in one pass")
    parser.no_effect("einsum", "the distance is always one batched matrix product")
    parser.no_effect("debug", "errors carry their traceback without it")
    args = parser.parse()

    check_published(args, args.eval)
    if args.update is not None:
        return update(args, parser)
    for name in {"forget", "max_size"}.intersection(args.given):
        raise UserError(f"--{name} changes a model that is there: give --update MODEL too")
    preset = options.settle(args)
    options.runtime(args).check()  # no category's fault
    folder = options.run_folder(args) if args.save_model_subfolder else Path(args.save_path)
    categories = options.categories(args)
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
    report, chapters, table = Report(), [], folder / seeds_table(args.category, [seed])
    with exclusive(folder):
        for category in categories:
            with failed.noted(category.name):
                log = TimedLog()
                model = fit(args, preset, category, seed, folder, command, log)
                if args.eval:
                    chapters.append(evaluate(args, model, category, table, command, report, log))
    if report.rows:
        print(f"figures: {table}")
    publish(table, chapters, args)
    return report


@one_thread
def save(args: Arguments, model: Detector, path: Path, command: str, log: TimedLog) -> None:
    """Write the model to `path`, after the heat maps of its odd training pictures: with the model a fit is finished."""
    if args.save_pic != NONE and args.update is None:
        place = path.with_suffix("") / "odd"
        write_panels(place, "train", model.odd(), model.calibration, model.preprocess)
        log(f"heat maps of the training pictures least like the rest: {place}")
    write_times(path, model.stages.seconds, model.header, command)
    log(f"model: {model.save(path, command)}")


def evaluate(
    args: Arguments, model: Detector, category: Category, table: Path, command: str, report: Report, log: TimedLog
) -> Chapter:
    """Add the model's figures on the category to `report`, and write that to `table`; return what a page shows."""
    provenance, wanted = provenance_columns(model.header, command), Wanted.of(args, options.pro_limit(args))
    outcome = evaluate_category(model, category, table.parent / category.name, provenance, wanted)
    log(summary(outcome.row))
    report.rows.append(outcome.row)
    report.provenance.append(provenance)
    write_report(table, report)
    fitting = model.stages.seconds or read_times(table.parent / f"{category.name}.safetensors", model.header)
    return Chapter(outcome, model.header, fitting, command)


def update(args: Arguments, parser: Parser) -> int:
    """Add the category's good pictures to the model of --update, and write the result as a trained model is."""
    path, log = Path(args.update), TimedLog()
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
    print(model_text(model) + told(skipped), flush=True)
    command = options.command(parser, args, model)
    folder = options.results_folder(args, model, path) if args.save_model_subfolder else Path(args.save_path)
    with exclusive(folder):
        if args.save_model:
            save(args, model, folder / f"{category.name}.safetensors", command, log)
        if args.eval:
            table = folder / seeds_table(category.name, [model.seed])
            publish(table, [evaluate(args, model, category, table, command, Report(), log)], args)
    return 0


def fit(
    args: Arguments, preset: Preset, category: Category, seed: int, folder: Path, command: str, log: TimedLog
) -> Detector:
    """A model of the category's good pictures, saved in `folder`; the one there where an earlier run finished it."""
    pictures = draw(category.train_pictures(), args.shots, seed)
    print(f"== {category.name} (layout {layout_of(category)}): {len(pictures)} good pictures to fit on", flush=True)
    model = build_model(
        args.method,
        **options.per_backbone(args),
        k=args.k,
        preprocess=options.preprocess(args, preset, pictures, log),
        seed=seed,
        runtime=options.runtime(args),
        augment=options.augment(args),
        **options.method_options(args),
    )
    print(f"weights: {', '.join(backbone.source for backbone in model.backbones())}", flush=True)
    if RANDOM in (args.weights or []):
        print("WARNING: RANDOM BACKBONE WEIGHTS. Figures below say nothing about the method; use pretrained ones.")
    skipped, path = Skipped(), folder / f"{category.name}.safetensors"
    on_bad = skipped if args.skip_bad else None
    if args.save_model and is_finished(model, path, pictures, args.num_workers, on_bad, args.false_alarm):
        log(f"kept: {path} was fitted before on the same pictures with the same settings{told(skipped)}")
        return load_model(path, options.runtime(args))
    skipped.clear()
    model.fit(pictures, args.batch_size, args.num_workers, on_bad, log, args.false_alarm)
    print(model_text(model) + told(skipped), flush=True)
    if args.save_model:
        save(args, model, path, command, log)
    return model


def told(skipped: Skipped) -> str:
    """The end of a line about a fit: how many pictures it skipped, if any."""
    return f"; {len(skipped)} pictures skipped" if skipped else ""


if __name__ == "__main__":
    run_script(main)
