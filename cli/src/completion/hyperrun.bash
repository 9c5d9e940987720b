# Completes the command lines of hyperrun in bash. What there is to complete, hyperrun itself knows;
# where it knows nothing, files are completed.
_hyperrun() {
    mapfile -t COMPREPLY < <("$1" completion bash -- "${COMP_LINE:0:COMP_POINT}" "$2" 2>/dev/null)
    if [[ ${COMPREPLY-} == *: ]]; then compopt -o nospace; fi
}
complete -o bashdefault -o default -F _hyperrun hyperrun
