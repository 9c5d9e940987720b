#compdef hyperrun
# Completes the command lines of hyperrun in zsh. What there is to complete, hyperrun itself knows;
# where it knows nothing, files are completed.
_hyperrun() {
    local -a found
    found=("${(@f)$("$words[1]" completion zsh -- "${(@Q)words[1,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    if [[ -z $found[1] ]]; then
        _files
    elif [[ $found[1] == *: ]]; then
        _describe -V hyperrun found -S ''
    else
        _describe -V hyperrun found
    fi
}
if [[ $funcstack[1] == _hyperrun ]]; then
    _hyperrun "$@"
else
    compdef _hyperrun hyperrun
fi
