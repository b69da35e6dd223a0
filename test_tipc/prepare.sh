#!/usr/bin/env bash
# bash test_tipc/prepare.sh CONFIG MODE: put the data that the mode needs to the config's --data_path.
set -euo pipefail
cd "$(dirname "$0")/.."
source test_tipc/common_func.sh
read_config "${1:-}" "${2:-lite_train_lite_infer}"

data=$(option_of --data_path "$train_command")
category=$(option_of --category "$train_command")
[ -n "$data" ] && [ -n "$category" ] || fail "$1: the training command names no --data_path and --category"
input=$(for line in "${lines[@]:40}"; do func_parser_value "$line"; done | grep "/$category/test/" | head -n 1 || true)
kind=$(basename "$(dirname "${input:-$data/$category/test/crack/001.png}")")

source_of_mode=("--source=${MVTEC:-data/mvtec}/$category")
case $MODE in
lite_train_lite_infer) source_of_mode=() ;;
lite_train_whole_infer) source_of_mode+=(--few) ;;
esac
echo "interpreter: $python"
"$python" test_tipc/chain_data.py "--data=$data" "--category=$category" "--kind=$kind" "${source_of_mode[@]}"
