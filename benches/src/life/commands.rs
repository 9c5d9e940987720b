//! Commands that are over in a moment: in running containers, and about them.

use std::error::Error;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::found::Timed;
use crate::patience::{PATIENCE, Patient, await_end, output_of, run_to_end};
use crate::sample::Sample;
use crate::start::crowd::Crowd;
use crate::start::stage::{DEBIAN, Stage};
use crate::start::turns::Failures;

/// The name of what runs.
const NAME: &str = "hyperrun-bench";
/// What ends when it is asked to.
const OBEDIENT: &str = "trap exit TERM; echo x; while :; do sleep 1000 & wait; done";
/// How many containers `ps` shows, and the memory of each.
const SHOWN: usize = 50;
const SHOWN_MIB: u32 = 128;

/// `exec` of a program that does nothing, `crun exec` of the same, and `stop`, in turns.
///
/// # Errors
/// When one of them fails twice.
pub(super) fn exec_and_stop(
    stage: &Stage,
    runs: usize,
    failures: &mut Failures,
) -> Result<Vec<Timed>, Box<dyn Error>> {
    stage.tell("containers for exec");
    let running = Running::start(stage)?;
    let mut create = stage.hyperrun();
    create.args(["create", "--cpus", "1", "--name", "obedient", DEBIAN, "sh", "-c", OBEDIENT]);
    run_to_end(&mut create)?;
    let mut times = [const { Vec::new() }; 3];
    for round in 0..=runs {
        stage.tell(&format!("exec and stop, {round} of {runs}"));
        let round_times = [
            failures.forgive(|| timed(&mut running.crun_exec()))?,
            failures.forgive(|| timed(&mut running.exec()))?,
            failures.forgive(|| stop(stage))?,
        ];
        if round > 0 {
            times.iter_mut().zip(round_times).for_each(|(times, time)| times.push(time));
        }
    }
    let [crun, exec, stop] = times.map(Sample::new);
    let found = vec![
        Timed { key: "crun_exec", label: "crun exec /bin/true", times: crun },
        Timed { key: "exec", label: "hyperrun exec /bin/true", times: exec },
        Timed { key: "stop", label: "hyperrun stop", times: stop },
    ];
    Ok(found)
}

/// `ps` beside many containers, and the same binary when it does nothing, in turns.
///
/// # Errors
/// When one of them fails twice.
pub(super) fn ps(
    stage: &Stage,
    runs: usize,
    failures: &mut Failures,
) -> Result<Vec<Timed>, Box<dyn Error>> {
    stage.tell(&format!("{SHOWN} containers for ps"));
    let mut crowd = Crowd::new(stage, SHOWN_MIB)?;
    for _ in 0..SHOWN {
        failures.forgive(|| crowd.add())?;
    }
    let (mut bare, mut shown) = (Vec::new(), Vec::new());
    stage.tell("ps");
    // They are over in milliseconds.
    for round in 0..=3 * runs {
        let bare_time = failures.forgive(|| timed(stage.hyperrun().arg("--version")))?;
        let shown_time = failures.forgive(|| timed(stage.hyperrun().arg("ps")))?;
        if round > 0 {
            bare.push(bare_time);
            shown.push(shown_time);
        }
    }
    let listed = output_of(stage.hyperrun().args(["ps", "-q"]))?;
    if listed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() < SHOWN {
        return Err("ps does not show all that run".into());
    }
    Ok(vec![
        Timed { key: "version", label: "hyperrun --version", times: Sample::new(bare) },
        Timed { key: "ps", label: "hyperrun ps, 50 containers", times: Sample::new(shown) },
    ])
}

/// A container of each that runs and waits; they end with this value.
struct Running<'a>(&'a Stage);

impl Running<'_> {
    fn start(stage: &Stage) -> Result<Running<'_>, Box<dyn Error>> {
        let bundle = stage.make_bundle("bundle-waiting", &["sleep", "infinity"])?;
        let mut crun = stage.bare_crun();
        crun.args(["run", "--detach", NAME]).current_dir(bundle);
        run_to_end(&mut crun)?;
        let running = Running(stage);
        let mut run = stage.hyperrun();
        run.args(["run", "-d", "--network", "none", "--cpus", "1", "--name", NAME]);
        run.args([DEBIAN, "sleep", "infinity"]);
        run_to_end(&mut run)?;
        Ok(running)
    }

    fn exec(&self) -> Command {
        let mut command = self.0.hyperrun();
        command.args(["exec", NAME, "/bin/true"]);
        command
    }

    fn crun_exec(&self) -> Command {
        let mut command = self.0.bare_crun();
        command.args(["exec", NAME, "/bin/true"]);
        command
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // One that is gone already needs not be removed.
        drop(run_to_end(self.0.bare_crun().args(["delete", "--force", NAME])));
        drop(run_to_end(self.0.hyperrun().args(["rm", "-f", NAME])));
    }
}

/// The time of a command that must not fail.
fn timed(command: &mut Command) -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    run_to_end(command)?;
    Ok(begin.elapsed())
}

/// Starts what ends when it is asked to, and takes the time of that end.
fn stop(stage: &Stage) -> Result<Duration, Box<dyn Error>> {
    let mut start = stage.hyperrun();
    start.args(["start", "-a", "obedient"]);
    start.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut starter = start.spawn()?;
    let output = starter.stdout.take().expect("it was piped");
    let ready = Patient::new(output, PATIENCE).read_exact(&mut [0]);
    // Its container goes on without it.
    starter.kill()?;
    await_end(&mut starter, PATIENCE)?;
    ready?;
    timed(stage.hyperrun().args(["stop", "obedient"]))
}
