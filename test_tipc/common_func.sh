#!/usr/bin/env bash
# What the scripts of the chain share: reading a config, running a step, and saying how it went.

fail() {
    echo "error: $*" >&2
    exit 2
}

# A line is key:value; only the first colon splits, so paths and addresses may hold more of them.
func_parser_key() { echo "${1%%:*}"; }
func_parser_value() {
    case $1 in
    *:*) echo "${1#*:}" ;;
    *) echo "" ;;
    esac
}

# The value that holds in MODE, of "lite_train_lite_infer=1|whole_train_whole_infer=2" or of a plain value.
func_parser_params() {
    local part
    case $1 in
    *_infer=* | *_train=*)
        for part in ${1//|/ }; do
            [ "${part%%=*}" = "$MODE" ] && echo "${part#*=}" && return
        done
        ;;
    *) echo "$1" ;;
    esac
}

# "KEY=VALUE", as an option of a command, or nothing when either is null or the key is no option.
func_set_params() {
    case $1 in
    -*) [ "$2" = null ] || [ -z "$2" ] || echo "$1=$2" ;;
    esac
}

read_config() {
    [ -f "$1" ] || fail "no config at $1: give one of test_tipc/configs/*/train_infer_python.txt"
    lines=()
    local line
    while IFS= read -r line || [ -n "$line" ]; do lines+=("${line%$'\r'}"); done <"$1"
    [ ${#lines[@]} -ge 51 ] || fail "$1 has ${#lines[@]} lines, the format has 51"
    model_name=$(func_parser_value "${lines[1]}")
    train_command=$(func_parser_value "${lines[15]}")
    eval_command=$(func_parser_value "${lines[23]}")
    export_command=$(func_parser_value "${lines[29]}")
    infer_model=$(func_parser_value "${lines[36]}")
    infer_command=$(func_parser_value "${lines[39]}")
    find_python "$(func_parser_value "${lines[2]}")"
    output=test_tipc/output/$model_name/$MODE
    status_log=$output/results_python.log
}

# $PYTHON, or the config's interpreter where it exists, or python3.
find_python() {
    python=${PYTHON:-$1}
    command -v "$python" >/dev/null || python=python3
    command -v "$python" >/dev/null || fail "no $1 and no python3 here: set PYTHON to an interpreter with paddle"
}

# An option of a command line, --name=value or --name value; nothing when it is not there.
option_of() {
    local name=$1 word previous=""
    shift
    for word in $*; do
        [ "$previous" = "$name" ] && echo "$word" && return
        case $word in "$name="*) echo "${word#*=}" && return ;; esac
        previous=$word
    done
}

# status_check EXIT_CODE COMMAND LOG
status_check() {
    if [ "$1" -eq 0 ]; then
        echo "Run successfully with command - $model_name - $2 - $3!" | tee -a "$status_log"
    else
        echo "Run failed with command - $model_name - $2 - $3!" | tee -a "$status_log"
        tail -n 20 "$3" >&2
        failed=$((failed + 1))
    fi
}

# run_step LOG COMMAND...: the command, its words split at blanks as the configs write them.
run_step() {
    local log=$1 code=0
    shift
    (
        set -f # what holds a * is the command's to read
        exec $*
    ) >"$log" 2>&1 || code=$?
    status_check $code "$*" "$log"
    return $code
}

finish() {
    [ "$failed" -eq 0 ] || {
        echo "error: $failed steps of $model_name failed, see $status_log" >&2
        exit 1
    }
}
