//! A guest over a tap, and what is done with it.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::NetArguments;
use crate::patience::{PATIENCE, Patient, output_within, run_to_end};
use crate::sample::Sample;

/// How many bytes go there and back, one by one.
const ROUND_TRIPS: usize = 300;
/// hyperrun's own words for the kernel, as far as they are not about its devices.
const WORDS: &str = "console=ttyS0 quiet loglevel=2 panic=-1 reboot=k tsc=reliable no_timer_check \
                     noreplace-smp random.trust_cpu=on cryptomgr.notests \
                     rcupdate.rcu_expedited=1 dummy.numdummies=0";

/// Whose machine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Engine {
    Qemu,
    Hyperrun,
}

/// What moves a guest's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mover {
    /// The machine's own process.
    Device,
    /// vhost-net.
    Kernel,
}

/// A running guest; it and its tap are gone with this value.
pub(super) struct Machine {
    pub(super) engine: Engine,
    pub(super) mover: Mover,
    address: String,
    process: Child,
    _tap: Tap,
}

/// An interface of the host.
struct Tap(String);

impl Machine {
    /// Boots the machine of this number, and waits until its guest listens.
    ///
    /// # Errors
    /// When the host refuses, or the guest does not get that far.
    pub(super) fn boot(
        arguments: &NetArguments,
        number: u8,
        engine: Engine,
        mover: Mover,
    ) -> Result<Machine, Box<dyn Error>> {
        let tap = Tap::new(number)?;
        // Of the block that is for benchmarks of networks (RFC 2544).
        let address = format!("198.18.{number}.2");
        let mut command = match engine {
            Engine::Qemu => qemu(arguments, mover, &tap.0, &address),
            Engine::Hyperrun => hyperrun(arguments, mover, &tap.0, &address),
        };
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        let console = process.stdout.take().expect("it was piped");
        let machine = Machine { engine, mover, address, process, _tap: tap };
        let mut said = BufReader::new(Patient::new(console, PATIENCE));
        let mut line = String::new();
        while line.trim() != "running" {
            line.clear();
            if said.read_line(&mut line)? == 0 {
                return Err(format!("{command:?} ended before its guest was ready").into());
            }
        }
        Ok(machine)
    }

    /// How long a GiB takes out of the guest.
    ///
    /// # Errors
    /// When iperf3 fails.
    pub(super) fn flow_out(&self, duration: Duration) -> Result<Duration, Box<dyn Error>> {
        self.flow(duration, &["--reverse"])
    }

    /// How long a GiB takes into the guest.
    ///
    /// # Errors
    /// When iperf3 fails.
    pub(super) fn flow_in(&self, duration: Duration) -> Result<Duration, Box<dyn Error>> {
        self.flow(duration, &[])
    }

    fn flow(&self, duration: Duration, more: &[&str]) -> Result<Duration, Box<dyn Error>> {
        let mut iperf = Command::new("iperf3");
        iperf.args(["--json", "--client", &self.address, "--time"]);
        iperf.arg(duration.as_secs().to_string()).args(more);
        let report: Value = serde_json::from_slice(&output_within(&mut iperf, PATIENCE)?)?;
        let rate = &report["end"]["sum_received"]["bits_per_second"];
        let rate = rate.as_f64().filter(|rate| *rate > 0.0);
        let rate = rate.ok_or_else(|| format!("{iperf:?} moved nothing: {report}"))?;
        Ok(Duration::from_secs_f64(f64::from(1u32 << 30) * 8.0 / rate))
    }

    /// The median of how long a byte takes there and back.
    ///
    /// # Errors
    /// When the guest does not answer.
    pub(super) fn round_trip(&self) -> Result<Duration, Box<dyn Error>> {
        let mut stream = TcpStream::connect((self.address.as_str(), 7))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let begin = Instant::now();
            stream.write_all(b"x")?;
            stream.read_exact(&mut [0])?;
            times.push(begin.elapsed());
        }
        Ok(Sample::new(times).median())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What has ended already need not be killed.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Tap {
    fn new(number: u8) -> Result<Self, Box<dyn Error>> {
        let tap = Self(format!("hyperbench{number}"));
        run_to_end(Command::new("ip").args(["tuntap", "add", "mode", "tap", "name", &tap.0]))?;
        let address = format!("198.18.{number}.1/24");
        run_to_end(Command::new("ip").args(["address", "add", &address, "dev", &tap.0]))?;
        run_to_end(Command::new("ip").args(["link", "set", &tap.0, "up"]))?;
        Ok(tap)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // The next one fails where this one has.
        drop(run_to_end(Command::new("ip").args(["link", "delete", &self.0])));
    }
}

fn hyperrun(arguments: &NetArguments, mover: Mover, tap: &str, address: &str) -> Command {
    let mut command = Command::new(&arguments.boot);
    command.arg("--kernel").arg(&arguments.kernel).arg("--initramfs").arg(&arguments.initramfs);
    command.args(["--memory", "256"]);
    command.arg(match mover {
        Mover::Device => "--tap",
        Mover::Kernel => "--vhost",
    });
    command.args([tap, "--append", &format!("quiet loglevel=2 ADDRESS={address}")]);
    command
}

/// As lean as QEMU gets, with the device that its documentation of `microvm` has.
fn qemu(arguments: &NetArguments, mover: Mover, tap: &str, address: &str) -> Command {
    let vhost = match mover {
        Mover::Device => "off",
        Mover::Kernel => "on",
    };
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", "microvm,acpi=off,rtc=off,pit=off,pic=off,x-option-roms=off"]);
    command.args(["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", "256"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.args(["-global", "virtio-mmio.force-legacy=false", "-serial", "stdio"]);
    command.arg("-kernel").arg(&arguments.kernel).arg("-initrd").arg(&arguments.initramfs);
    command.args(["-append", &format!("{WORDS} ADDRESS={address}")]);
    let netdev = format!("tap,id=net,ifname={tap},script=no,downscript=no,vhost={vhost}");
    command.args(["-netdev", &netdev, "-device", "virtio-net-device,netdev=net"]);
    command
}
