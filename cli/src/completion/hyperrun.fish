# Completes the command lines of hyperrun in fish. What there is to complete, hyperrun itself knows;
# where it knows nothing, files are completed.
function __hyperrun_found
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    $words[1] completion fish -- $words (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete --command hyperrun --condition 'test -n "$(__hyperrun_found)"' --no-files --keep-order --arguments '(__hyperrun_found)'
