#!/usr/bin/env bash
# bash test_tipc/prepare.sh CONFIG MODE: put the data that the mode needs to the config's --data_path.
set -euo pipefail
cd "$(dirname "$0")/.."
source test_tipc/common_func.sh
MODE=${2:-lite_train_lite_infer}
read_config "${1:-}"

data=$(option_of --data_path "$train_command")
category=$(option_of --category "$train_command")
[ -n "$data" ] && [ -n "$category" ] || fail "$1: the training command names no --data_path and --category"
input=$(for line in "${lines[@]:40}"; do func_parser_value "$line"; done | grep "/$category/test/" | head -n 1 || true)
kind=$(basename "$(dirname "${input:-$data/$category/test/crack/001.png}")")
whole=${MVTEC:-data/mvtec}/$category

case $MODE in
lite_train_lite_infer)
    rm -rf "${data:?}/$category"
    "$python" test_tipc/lite_data.py "$data" "$category" "$kind"
    ;;
lite_train_whole_infer | whole_infer | whole_train_whole_infer | benchmark_train)
    [ -d "$whole/train/good" ] || fail "no MVTec AD category at $whole: put it there, or set MVTEC to its parent folder"
    rm -rf "${data:?}/$category"
    mkdir -p "$data/$category/train/good"
    for part in test ground_truth; do ln -s "$(realpath "$whole/$part")" "$data/$category/$part"; done
    count=$([ "$MODE" = lite_train_whole_infer ] && echo 16 || echo 1000000)
    find "$(realpath "$whole/train/good")" -type f | sort | head -n "$count" | while read -r picture; do
        ln -s "$picture" "$data/$category/train/good/"
    done
    ;;
*) fail "unknown mode $MODE: lite_train_lite_infer, lite_train_whole_infer, whole_infer, whole_train_whole_infer or \
benchmark_train" ;;
esac
echo "$MODE: $(find -L "$data/$category/train" -type f | wc -l) training pictures in $data/$category"
