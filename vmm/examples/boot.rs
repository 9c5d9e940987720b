//! Boots a kernel and shows its console; for tests of the machine without anything around it.
//!
//! `boot {--kernel | --prepared} FILE [--initramfs FILE] [--cpus N] [--memory MIB] [--disk FILE]…
//! [--scratch FILE:MIB]… [--tap NAME] [--vhost NAME] [--append WORDS]`; `--vhost` is a tap whose frames the
//! host's kernel moves. The exit code tells how the machine ended: 0 power-off,
//! 10 reboot, 11 panic, 12 triple fault, 13 halt, 14 anything else, 1 an error.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "an example talks to a person")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::thread;

use hyperrun_vmm::error::chain;
use hyperrun_vmm::{
    BootFiles, DiskBacking, DiskConfig, DiskExtent, DiskLimits, Event, Exit, KernelFile, Machine,
    MachineConfig, NetBackend, NetConfig, Start, open_tap, open_vhost,
};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match boot() {
        Ok(exit) => {
            eprintln!("boot: {exit}");
            ExitCode::from(code(&exit))
        }
        Err(error) => {
            eprintln!("boot: error: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn boot() -> Result<Exit, Failure> {
    let (reader, writer) = io::pipe()?;
    let config = parse(std::env::args().skip(1), OwnedFd::from(writer).into())?;
    let show = thread::spawn(move || show(File::from(OwnedFd::from(reader))));
    let exit = Machine::new(config)?.run()?;
    show.join().map_err(|_| "the console's thread panicked")??;
    Ok(exit)
}

fn show(mut events: File) -> io::Result<()> {
    let mut out = io::stdout();
    loop {
        match Event::read_from(&mut events) {
            Ok(Some(Event::Console(bytes))) => {
                out.write_all(&bytes)?;
                out.flush()?;
            }
            Ok(Some(Event::Running)) => eprintln!("boot: running"),
            Ok(Some(Event::AgentReady)) => eprintln!("boot: agent ready"),
            Ok(Some(Event::Ended(_)) | None) => return Ok(()),
            Ok(Some(_)) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>, events: File) -> Result<MachineConfig, Failure> {
    let mut kernel = None;
    let (mut initramfs, mut vcpus, mut memory_mib) = (None, 1, 256);
    let (mut disks, mut net, mut command_line) = (Vec::new(), None, String::new());
    let mut trace = true;
    while let Some(option) = words.next() {
        if option == "--quiet" {
            trace = false;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--kernel" => kernel = Some(KernelFile::Plain(File::open(&value)?)),
            "--prepared" => kernel = Some(KernelFile::Prepared(File::open(&value)?)),
            "--initramfs" => initramfs = Some(File::open(&value)?),
            "--cpus" => vcpus = value.parse()?,
            "--memory" => memory_mib = value.parse()?,
            "--append" => command_line = value,
            "--disk" => disks.push(read_only(&value)?),
            "--scratch" => disks.push(scratch(&value)?),
            "--tap" => {
                let backend = NetBackend::Tap(open_tap(&value)?);
                net = Some(NetConfig { backend, ..NetConfig::default() })
            }
            "--vhost" => {
                let backend = NetBackend::Tap(open_tap(&value)?);
                let vhost = Some(open_vhost()?);
                net = Some(NetConfig { backend, vhost, ..NetConfig::default() })
            }
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    let kernel = kernel.ok_or("--kernel is missing")?;
    Ok(MachineConfig {
        memory_mib,
        vcpus,
        start: Start::Boot(BootFiles { kernel, initramfs, command_line }),
        save: None,
        disks,
        disk_limits: DiskLimits::default(),
        vsock: None,
        net,
        spare_interfaces: 0,
        plugged: Vec::new(),
        orders: None,
        events,
        trace,
    })
}

fn read_only(path: &str) -> Result<DiskConfig, Failure> {
    let file = File::open(path)?;
    let length = file.metadata()?.len() & !0xfff;
    let extent = DiskExtent { file, offset: 0, length };
    Ok(DiskConfig { backing: DiskBacking::read_only(vec![extent]), id: "disk".to_owned() })
}

fn scratch(word: &str) -> Result<DiskConfig, Failure> {
    let (path, mib) = word.rsplit_once(':').ok_or("--scratch needs FILE:MIB")?;
    let overlay = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    let capacity_bytes = mib.parse::<u64>()? << 20;
    let backing = DiskBacking::CopyOnWrite {
        base: None,
        base_bytes: 0,
        overlay,
        usable_bytes: capacity_bytes,
        capacity_bytes,
    };
    Ok(DiskConfig { backing, id: "scratch".to_owned() })
}

fn code(exit: &Exit) -> u8 {
    match exit {
        Exit::PowerOff => 0,
        Exit::Reboot => 10,
        Exit::Panic { .. } => 11,
        Exit::TripleFault => 12,
        Exit::Halt => 13,
        _ => 14,
    }
}
