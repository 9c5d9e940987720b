//! `hyperrun run`: an image in a machine of its own.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;

use clap::ArgAction;
use clap::builder::{OsStringValueParser, TypedValueParser};
use runtime::limits::{Cpus, MemorySize};
use runtime::places::Places;
use runtime::spec::{
    ContainerName, EnvChange, EnvError, Hostname, PullPolicy, RunSpec, Stdio, TemplateUse,
};
use runtime::{Error, Stopwatch, terminal_size};

use crate::arguments::Common;
use crate::commands::options::OptionArgs;
use crate::failure::Failure;

/// Run a program of an image in a virtual machine of its own
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "hyperrun run [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]",
    after_help = "\
The exit code is the program's; 128 and the number of the signal that ended it; 127 when it is not
in the image; 126 when it cannot be executed; 125 when hyperrun itself failed.

Examples:
  hyperrun run -t debian:bookworm bash
  echo hello | hyperrun run -i --rm debian:bookworm cat"
)]
pub(crate) struct RunArgs {
    /// Connect standard input
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the program this terminal; connects standard input too
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Pull the image first
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub(crate) pull: PullWhen,
    /// Remove the container when it ends, as every container is
    #[arg(long)]
    pub(crate) rm: bool,
    /// Set a variable, or pass on this environment's
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = env_parser())]
    pub(crate) env: Vec<EnvChange>,
    /// Begin in this folder of the container
    #[arg(short, long, value_name = "FOLDER")]
    pub(crate) workdir: Option<String>,
    /// Run as this user, by name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<OsString>,
    /// Name the container
    #[arg(long)]
    pub(crate) name: Option<ContainerName>,
    /// Name the host the program sees
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<Hostname>,
    /// Give the machine this much memory, as 512m or 2g
    #[arg(short, long, value_name = "SIZE", default_value_t = MemorySize::DEFAULT)]
    pub(crate) memory: MemorySize,
    /// Let the program keep this many CPUs busy
    #[arg(long, value_name = "NUMBER", default_value_t = Cpus::DEFAULT)]
    pub(crate) cpus: Cpus,
    /// Refuse writes to the container's root file system
    #[arg(long)]
    pub(crate) read_only: bool,
    #[command(flatten)]
    pub(crate) options: Box<OptionArgs>,
    /// Boot the machine, instead of going on from one that was saved when it had booted
    #[arg(long)]
    pub(crate) no_template: bool,
    /// Say on standard error how long each step of the start took
    #[arg(long)]
    pub(crate) timings: bool,
    /// Print help
    #[arg(long, action = ArgAction::HelpShort)]
    pub(crate) help: Option<bool>,
    /// The image, then the program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE", hide = true)]
    pub(crate) image_and_command: Vec<OsString>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum PullWhen {
    Always,
    Missing,
    Never,
}

impl From<PullWhen> for PullPolicy {
    fn from(when: PullWhen) -> Self {
        match when {
            PullWhen::Always => Self::Always,
            PullWhen::Missing => Self::Missing,
            PullWhen::Never => Self::Never,
        }
    }
}

/// Runs a container and becomes its exit code.
pub(crate) fn run(
    args: RunArgs,
    common: &Common,
    stopwatch: Stopwatch,
) -> Result<ExitCode, Failure> {
    let timings = args.timings;
    let places = Places::find(common.root.as_deref()).map_err(Failure::of_run)?;
    let spec = spec(args, common).map_err(Failure::of_run)?;
    let outcome = runtime::run(&spec, &places, stopwatch).map_err(Failure::of_run)?;
    if timings {
        // Where stderr is closed nobody wants to know.
        let _ = write!(std::io::stderr().lock(), "{}", outcome.clocks);
    }
    Ok(ExitCode::from(outcome.code))
}

fn spec(args: RunArgs, common: &Common) -> Result<RunSpec, Error> {
    let stdio = stdio(&args)?;
    let mut words = args.image_and_command.into_iter();
    let image = words.next().expect("clap requires an image");
    Ok(RunSpec {
        image: image.to_string_lossy().into_owned(),
        pull: args.pull.into(),
        command: words.map(OsStringExt::into_vec).collect(),
        entrypoint: args.entrypoint.map(OsStringExt::into_vec),
        env: [args.options.variables()?, args.env].concat(),
        working_dir: args.workdir,
        user: args.user,
        name: args.name,
        hostname: args.hostname,
        memory: args.memory,
        cpus: args.cpus,
        read_only: args.read_only,
        options: args.options.options()?,
        stdio,
        template: if args.no_template { TemplateUse::Never } else { TemplateUse::Allowed },
        debug: common.debug,
    })
}

fn stdio(args: &RunArgs) -> Result<Stdio, Error> {
    match (args.tty, args.interactive) {
        (true, _) => terminal_size().map(Stdio::Terminal).ok_or(Error::NotATerminal),
        (false, true) => Ok(Stdio::Pipes),
        (false, false) => Ok(Stdio::OutputOnly),
    }
}

fn env_parser() -> impl TypedValueParser<Value = EnvChange> {
    OsStringValueParser::new().try_map(|text: OsString| -> Result<EnvChange, EnvError> {
        EnvChange::parse(text.as_bytes())
    })
}
