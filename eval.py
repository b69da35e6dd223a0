"""Evaluate saved models on their categories' test pictures.

python eval.py --data_path DATA --category bottle --method patchcore --arch resnet18 --k 10 --eval_PRO
"""

from __future__ import annotations

import options
from datasets.readers.mvtec import select_categories
from deploy.calibration import RATE_HELP
from deploy.command_line.parser import Parser, rate
from deploy.command_line.script import run_script
from deploy.errors import UserError
from deploy.results.tables import provenance_columns
from evaluation.report import Report, seeds_table, summary, write_report, write_seeds_report
from evaluation.run import evaluate_category
from models import load_model, model_text


def main() -> int:
    parser = Parser(prog="eval.py", usage="python %(prog)s [OPTIONS]", description=__doc__)
    options.add_data_option(parser, "the folder that holds the categories", several=True)
    options.add_model_options(parser, several=True)
    options.add_size_options(parser)
    parser.no_effect("batch_size", "--test_batch_size sets the pictures per run")
    options.add_evaluation_options(parser)
    parser.add_argument("--false_alarm", type=rate, default=None, help=f"{RATE_HELP}; the model's own if not given")
    options.add_precision_option(parser)
    options.add_run_options(parser)
    args = parser.parse()

    categories = select_categories(args.data_path, args.category)
    if args.model_path is not None and len(categories) > 1:
        raise UserError(
            f"--model_path is one model, --category {args.category} are {len(categories)}: name one category"
        )
    reports, seeds = [], options.asked_seeds(args)
    files = [[options.model_file(args, category.name, seed) for category in categories] for seed in seeds]
    for paths in files:
        report, seed = Report(), options.shared_seed(paths)
        for path, category in zip(paths, categories):
            model = load_model(path, options.runtime(args))
            options.check_model(args, model, path)
            print(f"== {category.name}: {model_text(model)}", flush=True)
            folder = options.results_folder(args, model, path)
            provenance, limit = (
                provenance_columns(model.header, options.command(parser, args, model)),
                options.pro_limit(args),
            )
            batch, workers, pictures = args.test_batch_size, args.num_workers, args.save_pic
            row = evaluate_category(
                model, category, folder / category.name, provenance, batch, workers, limit, pictures, args.false_alarm
            )
            print(summary(row), flush=True)
            report.rows.append(row)
            report.provenance.append(provenance)
        print(f"figures: {write_report(folder / seeds_table(args.category, [seed]), report)}")
        reports.append(report)
    if len(seeds) > 1:
        path = options.run_folder(args) / seeds_table(args.category, seeds)
        print(f"mean and deviation: {write_seeds_report(path, reports)}")
    return 0


if __name__ == "__main__":
    run_script(main)
