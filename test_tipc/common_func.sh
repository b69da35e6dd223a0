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

MODES="lite_train_lite_infer lite_train_whole_infer whole_train_whole_infer whole_infer benchmark_train"

# read_config CONFIG MODE
read_config() {
    MODE=$2
    [[ " $MODES " == *" $MODE "* ]] || fail "unknown mode $MODE: give one of ${MODES// /, }"
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
    choose_arch
    output=test_tipc/output/$model_name/$MODE
    status_log=$output/results_python.log
}

# $PYTHON, or the config's interpreter, or python3: the first that runs and has paddle. A launcher's shim for a version
# that is not installed is found on the path, but does not run.
find_python() {
    local choices=("$1" python3)
    [ -z "${PYTHON:-}" ] || choices=("$PYTHON")
    for python in "${choices[@]}"; do
        "$python" -c "import importlib.util as u, sys; sys.exit(u.find_spec('paddle') is None)" 2>/dev/null && return
    done
    fail "no interpreter that runs and has paddle (tried ${PYTHON:-$1, python3}): set PYTHON to one"
}

# --arch=A|B in the commands: the first backbone whose weights are here, else the last.
choose_arch() {
    local choices
    choices=$(option_of --arch "$train_command")
    arch=${choices##*|}
    [ "$arch" != "$choices" ] || return 0
    local other
    for other in ${choices//|/ }; do
        if has_weights "$other"; then
            arch=$other
            break
        fi
    done
    train_command=${train_command/"$choices"/$arch} eval_command=${eval_command/"$choices"/$arch}
    export_command=${export_command/"$choices"/$arch}
}

has_weights() {
    "$python" -c "import sys; from models.backbones.weights import local_weights; \
sys.exit(local_weights(sys.argv[1]) is None)" "$1" 2>/dev/null
}

# What a line of the config asks for and this chain has no use for.
say_what_has_no_effect() {
    local line key value
    for line in "${lines[9]}" "${lines[28]}" "${lines[@]:16:3}" "${lines[@]:29:5}" "${lines[35]}" "${lines[37]}" "${lines[38]}"; do
        key=$(func_parser_key "$line") value=$(func_parser_value "$line")
        case "$key=$value" in
        norm_export=* | null=* | *=null | *= | *=False) continue ;;
        Global.pretrained_model=*) key+=": the backbone's weights are looked up as docs/methods.md says" ;;
        inference_dir=* | infer_export=*) key+=": inference reads the paths of its own command" ;;
        infer_quant=*) key+=": there are no quantised programs" ;;
        *) key+=": there is one way to train and export, norm_train and norm_export" ;;
        esac
        note "No effect - $model_name - $key"
    done
    for value in $(func_parser_value "${lines[14]}" | tr '|' ' '); do
        [ "$value" = norm_train ] || note "No effect - $model_name - trainer $value: there is norm_train only"
    done
}

# Print a line, and keep it in the chain's log.
note() { echo "$*" | tee -a "$status_log"; }

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

# run_step LOG SCRIPT WORDS...: of Python; the words are split at blanks as the configs write them.
run_step() {
    local log=$1 code=0
    shift
    (
        set -f # what holds a * is the command's to read
        exec "$python" $*
    ) >"$log" 2>&1 || code=$?
    status_check $code "$python $*" "$log"
    return $code
}

finish() {
    [ "$failed" -eq 0 ] || {
        echo "error: $failed steps of $model_name failed, see $status_log" >&2
        exit 1
    }
}
