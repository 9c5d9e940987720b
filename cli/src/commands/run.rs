//! `hyperrun run`: an image in a machine of its own.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::ExitCode;

use clap::ArgAction;
use clap::builder::{OsStringValueParser, TypedValueParser};
use runtime::limits::{Cpus, MemorySize};
use runtime::options::Options;
use runtime::places::Places;
use runtime::settings::Settings;
use runtime::spec::{
    ContainerName, EnvChange, EnvError, Hostname, PullPolicy, RunSpec, Stdio, TemplateUse,
};
use runtime::{Attendance, Created, Error, Stopwatch, UNSEEN_SIZE, terminal_size};

use crate::arguments::Common;
use crate::commands::attach::AttendingArgs;
use crate::commands::keeping::KeepingArgs;
use crate::commands::options::OptionArgs;
use crate::commands::print;
use crate::commands::publishing::PublishingArgs;
use crate::failure::Failure;

/// Run a program of an image in a virtual machine of its own
#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    override_usage = "hyperrun run [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]",
    after_help = "\
The exit code is the program's; 128 and the number of the signal that ended it; 127 when it is not
in the image; 126 when it cannot be executed; 125 when hyperrun itself failed.

Defaults are those of config.toml; `hyperrun info` shows them.

Examples:
  hyperrun run -t --rm debian:bookworm bash
  echo hello | hyperrun run -i --rm debian:bookworm cat
  hyperrun run -d --name web busybox httpd -f"
)]
pub(crate) struct RunCommand {
    /// Print the container's id once its program runs, and leave it alone
    #[arg(short, long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) attending: AttendingArgs,
    #[command(flatten)]
    pub(crate) container: RunArgs,
}

/// What `run` and `create` have in common.
#[derive(Debug, clap::Args)]
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
    #[command(flatten)]
    pub(crate) keeping: KeepingArgs,
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
    /// Give the machine this much memory, as 512m or 2g [default: 512m]
    #[arg(short, long, value_name = "SIZE")]
    pub(crate) memory: Option<MemorySize>,
    /// Let the program keep this many CPUs busy [default: 1]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<Cpus>,
    /// Refuse writes to the container's root file system
    #[arg(long)]
    pub(crate) read_only: bool,
    #[command(flatten)]
    pub(crate) options: Box<OptionArgs>,
    #[command(flatten)]
    pub(crate) publishing: Box<PublishingArgs>,
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

/// Whether somebody is there when a container starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// The one who runs it.
    Here,
    /// Nobody.
    Away,
    /// It is not known yet.
    Later,
}

/// Runs a container; becomes its exit code, unless it is left alone.
pub(crate) fn run(
    command: RunCommand,
    common: &Common,
    stopwatch: Stopwatch,
) -> Result<ExitCode, Failure> {
    let RunCommand { detach, attending, container: args } = command;
    let timings = args.timings;
    let (attendance, stay) = match detach {
        true => (Attendance::Away, Stay::Away),
        false => (attending.here(takes_input(args.interactive, args.tty)), Stay::Here),
    };
    let created = create(args, stay, common)?;
    let id = created.id().to_owned();
    let outcome = created.start(&attendance, stopwatch).map_err(Failure::of_run)?;
    if detach {
        print(&(id + "\n"))?;
    }
    if timings {
        // Where stderr is closed nobody wants to know.
        let _ = write!(std::io::stderr().lock(), "{}", outcome.clocks);
    }
    Ok(ExitCode::from(outcome.code))
}

/// Creates the container that the arguments describe, and writes its id down where that is wanted.
pub(crate) fn create(args: RunArgs, stay: Stay, common: &Common) -> Result<Created, Failure> {
    let places = Places::find(common.root.as_deref()).map_err(Failure::of_run)?;
    let settings = Settings::load().map_err(Failure::of_run)?;
    let keeping = args.keeping.keeping(stay, &settings)?;
    let file = args.keeping.cidfile.clone();
    if let Some(file) = file.as_deref().filter(|file| file.exists()) {
        let error = format!("container ID file found: {}", file.display());
        let hint = "make sure that the other container is not running, or remove the file";
        return Err(Failure::new(&error, hint).with_code(125));
    }
    let spec = spec(args, stay, common, &settings).map_err(Failure::of_run)?;
    let created = runtime::create(&spec, keeping, &places).map_err(Failure::of_run)?;
    match file.map(|file| std::fs::write(&file, created.id())) {
        Some(Err(error)) => {
            created.discard();
            Err(Failure::from(error).with_code(125))
        }
        _ => Ok(created),
    }
}

fn spec(args: RunArgs, stay: Stay, common: &Common, settings: &Settings) -> Result<RunSpec, Error> {
    let stdio = stdio(&args, stay)?;
    let (ports, dns) = args.publishing.parts();
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
        memory: args.memory.unwrap_or(settings.memory.value),
        cpus: args.cpus.unwrap_or(settings.cpus.value),
        scratch: args.options.scratch_size().unwrap_or(settings.scratch_size.value),
        read_only: args.read_only,
        options: Options { ports, dns, ..args.options.options()? },
        stdio,
        template: if args.no_template { TemplateUse::Never } else { TemplateUse::Allowed },
        debug: common.debug,
    })
}

/// A terminal of a container that is left alone has some size until somebody attaches to it.
fn stdio(args: &RunArgs, stay: Stay) -> Result<Stdio, Error> {
    match (args.tty, args.interactive) {
        (true, interactive) if stay == Stay::Here => terminal(interactive),
        (true, _) => Ok(Stdio::Terminal(UNSEEN_SIZE)),
        (false, true) => Ok(Stdio::Pipes),
        (false, false) => Ok(Stdio::OutputOnly),
    }
}

/// A terminal of this one's size; of any where there is none, and none is to be typed into.
pub(crate) fn terminal(interactive: bool) -> Result<Stdio, Error> {
    let size = terminal_size().or((!interactive).then_some(UNSEEN_SIZE));
    size.map(Stdio::Terminal).ok_or(Error::NotATerminal)
}

/// Whether the program gets this process's input: with `-t` alone, if that is a terminal.
pub(crate) fn takes_input(interactive: bool, tty: bool) -> bool {
    interactive || (tty && terminal_size().is_some())
}

pub(crate) fn env_parser() -> impl TypedValueParser<Value = EnvChange> {
    OsStringValueParser::new().try_map(|text: OsString| -> Result<EnvChange, EnvError> {
        EnvChange::parse(text.as_bytes())
    })
}
