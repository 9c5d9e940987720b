//! A container's first process that is made before anything is known of its container: it stands in the
//! root that every container of the image has, holds nothing, and waits to be told the rest.

use std::{
    fs::File,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use protocol::{ContainerSpec, Preparation, StartError};
use rustix::{
    fs::Mode,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
    },
    process::{Pid, WaitId, WaitIdOptions, umask, waitid},
};

use crate::{
    cgroup::Cgroup,
    confinement::Confinement,
    devices::DeviceNodes,
    etc::EtcMounts,
    launch::{self, FAILED, Settling},
    program::Program,
    rootfs::{self, Furniture, Interior},
    stdio::Stdio,
    step::{Doing, StepError, describe},
    sys::{self, Cloned},
    user::Account,
    volumes::Volumes,
};

/// The process, as the agent holds it.
pub(crate) struct Waiting {
    pid: Pid,
    pidfd: OwnedFd,
    /// Where it is told the rest.
    line: File,
    shm_bytes: u64,
}

/// The rest, as it is written: what is asked for, and an [`Account`]'s numbers, groups and home. What the
/// process has to hold comes with a byte before it.
type Orders = (ContainerSpec, (u32, u32, Vec<u32>, Vec<u8>));

/// The most descriptors that come: three streams and the report.
const MOST_DESCRIPTORS: usize = 4;

impl Waiting {
    /// Makes it, and waits until it stands in its root.
    pub(crate) fn make(preparation: &Preparation, cgroup: &Cgroup) -> Result<Self, StepError> {
        let shm_bytes = preparation.shm_bytes;
        let etc = EtcMounts::write_blank()?;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .doing("make a pair of sockets")?;
        let cloned = sys::clone_into_namespaces(cgroup.as_fd()).doing("make a process")?;
        let Cloned::Parent { pid, pidfd } = cloned else { stand(theirs, etc, shm_bytes) };
        drop(theirs);
        let mut line = File::from(ours);
        let stands: Result<(), String> =
            protocol::read(&mut line).map_err(io::Error::other).doing("hear of a process")?;
        stands.map_err(io::Error::other).doing("furnish the container's root")?;
        Ok(Self { pid, pidfd, line, shm_bytes })
    }

    /// Whether it can become the process of this container.
    pub(crate) fn serves(&self, spec: &ContainerSpec) -> bool {
        fits(spec, self.shm_bytes)
    }

    /// Takes it away, with its namespaces.
    pub(crate) fn dismiss(self) -> Result<(), StepError> {
        sys::send_signal(&self.pidfd, libc::SIGKILL).doing("end a process")?;
        let ended = waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        ended.map(drop).doing("wait for the end of a process")
    }

    /// Tells it the rest; its `execve`, or what failed before that, is said on `report`.
    pub(crate) fn go(
        self,
        spec: ContainerSpec,
        account: Account,
        stdio: &Stdio,
        report: BorrowedFd<'_>,
    ) -> Result<(Pid, OwnedFd), StepError> {
        let Self { pid, pidfd, mut line, .. } = self;
        let descriptors: Vec<_> = [report].into_iter().chain(stdio.pipes()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        let doing = "tell the container's process what it is";
        sendmsg(&line, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL).doing(doing)?;
        let Account { uid, gid, groups, home } = account;
        let orders: Orders = (spec, (uid, gid, groups, home));
        protocol::write(&mut line, &orders).map_err(io::Error::other).doing(doing)?;
        Ok((pid, pidfd))
    }
}

/// Whether a container has the root that one is furnished with ahead, and no wish that belongs before it:
/// what is mounted cannot be had otherwise any more, and a terminal brings `/dev/pts` along.
fn fits(spec: &ContainerSpec, shm_bytes: u64) -> bool {
    let ContainerSpec { tmpfs, volumes, sysctls, process, .. } = spec;
    let is_plain = tmpfs.is_empty() && volumes.is_empty() && sysctls.is_empty();
    let has_wish = process.terminal.is_some() || process.oom_score_adjustment.is_some();
    is_plain && !has_wish && !spec.privileged && !spec.init && spec.shm_bytes == shm_bytes
}

/// What the process does until it is a program.
fn stand(line: OwnedFd, etc: EtcMounts, shm_bytes: u64) -> ! {
    umask(Mode::empty());
    let furniture = Furniture {
        etc,
        volumes: Volumes::default(),
        devices: DeviceNodes::default(),
        terminal: None,
    };
    let interior = Interior { tmpfs: &[], sysctls: &[], privileged: false, shm_bytes };
    let entered = rootfs::enter(&interior, &furniture);
    drop(furniture);
    // The agent's doors and connections among them, which it could not close otherwise.
    let stands = entered.and_then(|()| sys::close_all_but(&line).doing("close the agent's"));
    let mut line = File::from(line);
    let told = protocol::write(&mut line, &stands.map_err(|error| describe(&error)));
    match told.ok().and_then(|()| receive(&mut line).ok()) {
        Some((orders, descriptors)) => become_program(orders, descriptors),
        // It is not needed, or its making has failed.
        None => sys::exit_now(FAILED),
    }
}

fn receive(line: &mut File) -> io::Result<(Orders, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let parts = &mut [IoSliceMut::new(&mut byte)];
    recvmsg(&*line, parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let descriptors = ancillary.drain().flat_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    Ok((protocol::read(line).map_err(io::Error::other)?, descriptors))
}

fn become_program(orders: Orders, descriptors: Vec<OwnedFd>) -> ! {
    let (spec, (uid, gid, groups, home)) = orders;
    let account = Account { uid, gid, groups, home };
    let mut descriptors = descriptors.into_iter();
    let Some(report) = descriptors.next() else { sys::exit_now(FAILED) };
    let become_it = || -> Result<StartError, StartError> {
        let program = Program::new(&spec.process, &account.home)?;
        let stdio = Stdio::of_pipes(descriptors);
        let confinement = Confinement { spec: &spec.process, account: &account };
        let settling = Settling { spec: &spec, stdio: &stdio, confinement, program: &program };
        Ok(settling.become_program())
    };
    let error = become_it().unwrap_or_else(|error| error);
    launch::give_up(report.into(), &error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program;
    use protocol::{Device, EtcFiles, Limits, MountFlags, Sysctl, Tmpfs, WallClock, WindowSize};

    const SHM_BYTES: u64 = 64 << 20;

    fn plain() -> ContainerSpec {
        ContainerSpec {
            image_disk: Device { index: 0 },
            scratch_disk: Device { index: 1 },
            read_only: false,
            hostname: "h".into(),
            domain_name: String::new(),
            etc: EtcFiles::default(),
            shm_bytes: SHM_BYTES,
            tmpfs: Vec::new(),
            volumes: Vec::new(),
            sysctls: Vec::new(),
            privileged: false,
            init: false,
            wall_clock: WallClock { seconds: 0, nanoseconds: 0 },
            entropy: [0; 32],
            limits: Limits::default(),
            networks: Vec::new(),
            process: program::tests::spec(&["echo"], &[]),
        }
    }

    #[test]
    fn what_comes_after_the_root_fits_and_what_is_in_it_does_not() {
        type Change = fn(&mut ContainerSpec);
        let all_allowed =
            MountFlags { read_only: false, no_exec: false, no_suid: false, no_dev: false };
        let tmpfs = Tmpfs {
            path: "/t".into(),
            flags: all_allowed,
            size_bytes: None,
            mode: 0o1777,
            owner: (0, 0),
        };
        let with_tmpfs = ContainerSpec { tmpfs: vec![tmpfs], ..plain() };
        assert!(fits(&plain(), SHM_BYTES) && !fits(&with_tmpfs, SHM_BYTES));
        let changes: [(Change, bool); 12] = [
            (|spec| spec.read_only = true, true),
            (|spec| spec.hostname = "other".into(), true),
            (|spec| spec.process.working_dir = "/w".into(), true),
            (|spec| spec.process.user.user = "web".into(), true),
            (|spec| spec.process.stdin = true, true),
            (|spec| spec.limits.pids = Some(3), true),
            (|spec| spec.shm_bytes = 1 << 20, false),
            (|spec| spec.volumes.push("/v".into()), false),
            (|spec| spec.sysctls.push(Sysctl { path: "a".into(), value: "1".into() }), false),
            (|spec| spec.privileged = true, false),
            (|spec| spec.init = true, false),
            (|spec| spec.process.terminal = Some(WindowSize { rows: 1, columns: 1 }), false),
        ];
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            let mut spec = plain();
            change(&mut spec);
            assert_eq!(fits(&spec, SHM_BYTES), expected, "change {number}");
        }
        let mut spec = plain();
        spec.process.oom_score_adjustment = Some(5);
        assert!(!fits(&spec, SHM_BYTES));
    }

    #[test]
    fn orders_come_with_what_they_hold() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        let (reading, writing) = rustix::pipe::pipe().unwrap();
        let pidfd = reading.try_clone().unwrap();
        let pid = Pid::from_raw(4711).unwrap();
        let waiting = Waiting { pid, pidfd, line: ours.into(), shm_bytes: SHM_BYTES };
        let account = Account { uid: 1, gid: 2, groups: vec![2, 3], home: b"/h".to_vec() };
        let pipes = [reading.try_clone().unwrap(), reading.try_clone().unwrap(), reading];
        let stdio = Stdio::of_pipes(pipes.into_iter());
        waiting.go(plain(), account, &stdio, writing.as_fd()).unwrap();
        let (orders, descriptors) = receive(&mut File::from(theirs)).unwrap();
        assert_eq!(orders, (plain(), (1, 2, vec![2, 3], b"/h".to_vec())));
        assert_eq!(descriptors.len(), MOST_DESCRIPTORS);
    }

    #[test]
    fn who_hangs_up_gives_no_orders() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                .unwrap();
        drop(ours);
        assert!(receive(&mut File::from(theirs)).is_err());
    }
}
