//! `hyperrun completion`: what a shell needs to complete command lines.

use std::process::ExitCode;

use clap_complete::Shell;

use crate::arguments::Arguments;
use crate::commands::print;
use crate::completion;
use crate::failure::Failure;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  source <(hyperrun completion bash)
  hyperrun completion zsh > ~/.zfunc/_hyperrun
  hyperrun completion fish > ~/.config/fish/completions/hyperrun.fish")]
pub(crate) struct CompletionArgs {
    /// The shell
    shell: Shell,
    /// What has been typed, as the scripts hand it over
    #[arg(last = true, hide = true)]
    typed: Vec<String>,
}

/// Prints the script, or what may follow what was typed.
pub(crate) fn run(args: &CompletionArgs) -> Result<ExitCode, Failure> {
    if !args.typed.is_empty() {
        print(&completion::answer(args.shell, &args.typed))?;
    } else if let Some(script) = completion::script(args.shell) {
        print(script)?;
    } else {
        let mut script = Vec::new();
        clap_complete::generate(args.shell, &mut Arguments::whole(), "hyperrun", &mut script);
        print(&String::from_utf8_lossy(&script))?;
    }
    Ok(ExitCode::SUCCESS)
}
