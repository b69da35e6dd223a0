#!/usr/bin/env bash
# bash test_tipc/test_train_inference_python.sh CONFIG MODE: train, evaluate, export, infer, compare; exit 1 if any fails.
set -uo pipefail
cd "$(dirname "$0")/.."
source test_tipc/common_func.sh
read_config "${1:-}" "${2:-lite_train_lite_infer}"
mkdir -p "$output"
: >"$status_log"
rm -f "$output"/python_infer_*.log # of an earlier run: the comparison reads all that are there
failed=0
note "Interpreter - $model_name - $python"
note "Backbone - $model_name - $arch"
say_what_has_no_effect

train() {
    local extra="" line former
    former=$(option_of --model_path "$export_command")
    case $former in test_tipc/output/* | ./test_tipc/output/*) rm -f "$former" ;; esac # else train.py may keep it
    for line in "${lines[@]:4:6}"; do
        extra+=" $(func_set_params "$(func_parser_key "$line")" "$(func_parser_params "$(func_parser_value "$line")")")"
    done
    run_step "$output/train.log" $train_command $extra || return
    ! was_kept || note "Not trained - $model_name - the model of an earlier run was kept: remove it to train again"
}

was_kept() { grep -q '\] kept: ' "$output/train.log"; }

# The options below "inference:", found by name: configs in use have them in more than one order.
infer_values() {
    local line
    for line in "${lines[@]:40}"; do
        [ "$(func_parser_key "$line")" = "$1" ] && func_parser_value "$line" | tr '|' ' ' && return
    done
    echo "$2"
}

infer_rest() {
    local line key value
    for line in "${lines[@]:40}"; do
        key=$(func_parser_key "$line") value=$(func_parser_params "$(func_parser_value "$line")")
        case $key in
        --use_gpu | --enable_mkldnn | --cpu_threads | --batch_size | --use_tensorrt | --precision) ;;
        --input_file)
            [[ $MODE != *whole_infer ]] || value=${value%/test/*}/test
            echo "$key=$value"
            ;;
        *) func_set_params "$key" "$value" ;;
        esac
    done | tr '\n' ' '
}

infer_one() {
    local name=python_infer_$1.log
    shift
    run_step "$output/$name" $infer_command "$@" $(infer_rest) "--save_path=$output/${name%.log}" &&
        cat "$output/${name%.log}/infer.csv" >>"$output/$name"
}

# Whether this machine and Paddle build can run so; what they cannot is said and left out.
can_run() {
    "$python" -c "from deploy import Runtime; Runtime($1).check()" 2>/dev/null && return
    note "Skipped - $model_name - $2: not on this machine or Paddle build"
    return 1
}

infer() {
    local precision
    for precision in $(infer_values --precision fp32); do
        case $precision in
        fp32 | fp16 | bf16) ;;
        *) note "Skipped - $model_name - --precision=$precision: fp32, fp16 and bf16 are there" && continue ;;
        esac
        for batch in $(infer_values --batch_size 1); do
            for gpu in $(infer_values --use_gpu False); do infer_on "$gpu" "$precision" "$batch"; done
        done
    done
}

infer_on() {
    local common="--use_gpu=$1 --precision=$2 --batch_size=$3" name="precision_$2_batchsize_$3" trt mkldnn threads
    if [ "$1" = True ]; then
        [ "$2" != bf16 ] || return 0 # oneDNN's, on the CPU
        can_run "use_gpu=True, precision='$2'" "--use_gpu=True" || return 0
        for trt in $(infer_values --use_tensorrt False); do
            infer_one "gpu_usetrt_${trt}_$name" $common "--use_tensorrt=$trt"
        done
        return
    fi
    for mkldnn in $(infer_values --enable_mkldnn True); do
        [ "$2" != bf16 ] || [ "$mkldnn" = True ] || continue
        [ "$2" = fp32 ] || can_run "precision='$2'" "--precision=$2" || continue
        for threads in $(infer_values --cpu_threads 1); do
            infer_one "cpu_usemkldnn_${mkldnn}_threads_${threads}_$name" $common \
                "--enable_mkldnn=$mkldnn" "--cpu_threads=$threads"
        done
    done
}

# The program as ONNX, run by ONNX Runtime and compared with Paddle's on test pictures.
to_onnx() {
    if "$python" -c "import paddle2onnx, onnxruntime" 2>/dev/null; then
        run_step "$output/paddle2onnx.log" $export_command --save_dir="$output/onnx" --format=onnx \
            --data_path="$(option_of --data_path "$train_command")" --category="$(option_of --category "$train_command")"
    else
        note "Skipped - $model_name - paddle2onnx: not installed, nor perhaps onnxruntime"
    fi
}

# Scores as stored: fp32 to 1e-3, and what a lower precision may change them by.
compare_scores() {
    local gt=test_tipc/results/${model_name}_${arch}_$MODE.txt precision tolerance
    if ! grep -qsxF "# $train_command" "$gt"; then
        note "Not compared - $model_name - no results are stored for this training command"
        return
    fi
    if ! (cd "$(option_of --save_path "$train_command")" && sed -n 's/^# backbone //p' | xargs test -f) <"$gt"; then
        note "Not compared - $model_name - results are stored for other weights of $arch"
        return
    fi
    for precision in $(infer_values --precision fp32); do
        compgen -G "$output/python_infer_*precision_${precision}_*.log" >/dev/null || continue
        tolerance=$([ "$precision" = fp32 ] && echo 1e-3 || echo 5e-2)
        run_step "$output/compare_$precision.log" test_tipc/compare_results.py --gt_file "$gt" \
            --log_file "$output/python_infer_*.log" --precision "$precision" --atol "$tolerance" --rtol "$tolerance"
    done
}

case $MODE in
benchmark_train)
    begin=$(date +%s.%N)
    if train && ! was_kept; then
        pictures=$(find -L "$(option_of --data_path "$train_command")/$(option_of --category "$train_command")/train" -type f | wc -l)
        "$python" -c "import sys; n, s = int(sys.argv[1]), float(sys.argv[3]) - float(sys.argv[2]); \
print(f'pictures: {n}, seconds: {s:.2f}, ips: {n / s:.3f} pictures/s')" "$pictures" "$begin" "$(date +%s.%N)" |
            tee -a "$output/train.log" "$status_log"
    fi
    ;;
whole_infer)
    [ -f "$infer_model" ] || [ -f "${infer_model%.*}.json" ] || fail "no exported model at $infer_model: run a training mode first"
    infer
    ;;
*)
    train &&
        { [ "$eval_command" = null ] || run_step "$output/eval.log" $eval_command; } &&
        run_step "$output/export.log" $export_command && infer && to_onnx
    ;;
esac
[ "$failed" -ne 0 ] || [ "$MODE" = benchmark_train ] || compare_scores
finish
