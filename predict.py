"""Score pictures with a trained model: a table and a heat map per picture.

python predict.py PICTURE|FOLDER... --category bottle --method patchcore --arch resnet18 --k 10
"""

from __future__ import annotations

import options
from deploy.calibration import RATE_HELP
from deploy.command_line.parser import ALL, Parser, positive, rate
from deploy.command_line.progress import progress
from deploy.command_line.script import run_script
from deploy.pictures.listing import list_pictures
from deploy.results.description import levels_text
from deploy.results.tables import ScoreSheet, picture_namer, provenance_columns
from models import load_model, model_text
from models.distributed.launch import check_alone


def main() -> int:
    parser = Parser(prog="predict.py", usage="python %(prog)s PICTURE|FOLDER... [OPTIONS]", description=__doc__)
    parser.group("data", "parts/gasket/test --category gasket")
    parser.add_argument("picture_path", nargs="+", help="pictures, or folders of them")
    options.add_model_options(parser, several=False, archs=None)
    options.add_size_options(parser, nargs=None)
    parser.group("results", "--threshold 0.55 --save_mask")
    parser.add_argument(
        "--threshold", type=float, default=None, help="call a defect above this; the model's if not given"
    )
    parser.flag("norm", True, "--threshold is on the scaled score (0.5 is the model's threshold), else on the raw one")
    parser.add_argument("--false_alarm", type=rate, default=None, help=f"{RATE_HELP}; the model's own if not given")
    parser.pictures("write a heat map per picture")
    parser.files_for_machines()
    options.add_precision_option(parser)
    options.add_run_options(parser)
    parser.add_argument("--test_batch_size", type=positive, default=1, help="pictures per run")
    args = parser.parse()
    check_alone("predict.py")

    category = options.one_category(args)
    pictures = [picture for place in args.picture_path for picture in list_pictures(place)]
    path = options.model_file(args, category, *options.asked_seeds(args))
    model = load_model(path, options.runtime(args))
    options.check_model(args, model, path)
    print(f"model: {path}\n{model_text(model)}", flush=True)
    levels = model.calibration.at(args.threshold, args.norm, args.false_alarm)
    if args.false_alarm is not None:
        print(levels_text(levels), flush=True)
    sheet = ScoreSheet(
        options.results_folder(args, model, path) / category,
        "predict",
        levels,
        model.preprocess,
        provenance_columns(model.header, options.command(parser, args, model)),
        args.save_pic == ALL,
        args.save_mask,
        pictures="predict",  # a folder of its own, since heatmaps/ belongs to the evaluation
        regions=args.min_area if args.save_regions else None,
        maps=args.save_map,
    )
    name = picture_namer(pictures)
    predictions = model.predict(pictures, args.test_batch_size, args.num_workers, sheet.skip)
    with sheet:
        for prediction in progress(predictions, len(pictures), "predict"):
            sheet.add(prediction, name(prediction.name))
        return sheet.finish()


if __name__ == "__main__":
    run_script(main)
