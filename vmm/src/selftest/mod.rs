//! Whether this KVM can run a guest, tried with a few dozen instructions and no kernel.
//!
//! A paravirtual KVM answers every ioctl and has every capability, and still no ordinary kernel
//! gets past its first system call on it. Only running a guest tells.

mod capabilities;
mod guest;
mod trial;
mod vm;

use std::io;

use kvm_ioctls::Kvm;

pub use self::capabilities::{Capability, CapabilityFinding, NEEDED};
pub(crate) use self::capabilities::{maps_ahead, missing as missing_capability};
pub use self::guest::Step;
use crate::kvm::API_VERSION;

/// Runs a small guest on `/dev/kvm`. Takes a few milliseconds, and five seconds at the most.
///
/// # Errors
/// What this KVM cannot do.
pub fn run() -> Result<(), SelfTestError> {
    let kvm = open()?;
    if let Some(Capability { name, .. }) = missing_capability(&kvm) {
        return Err(SelfTestError::MissingCapability { name });
    }
    trial::run(&kvm)
}

/// Asks `/dev/kvm` for each capability that a machine needs.
///
/// # Errors
/// When KVM cannot be asked at all.
pub fn capabilities() -> Result<Vec<CapabilityFinding>, SelfTestError> {
    Ok(capabilities::find(&open()?))
}

/// Asks `/dev/kvm` for what no machine needs and a start is faster with: that it maps memory ahead.
///
/// # Errors
/// When KVM cannot be asked at all.
pub fn memory_is_mapped_ahead() -> Result<bool, SelfTestError> {
    Ok(maps_ahead(&open()?))
}

/// Why this KVM cannot run a guest.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// There is no KVM.
    #[error("there is no /dev/kvm")]
    NoDevice {
        /// What opening it said.
        source: io::Error,
    },
    /// There is a KVM, but not for this user.
    #[error("no permission to use /dev/kvm")]
    Permission {
        /// What opening it said.
        source: io::Error,
    },
    /// KVM speaks another language.
    #[error("KVM has API version {version}, not 12")]
    OldApi {
        /// Its version.
        version: i32,
    },
    /// KVM lacks something that a machine needs.
    #[error("KVM has no {name}")]
    MissingCapability {
        /// The capability's name in `linux/kvm.h`.
        name: &'static str,
    },
    /// KVM refused a request.
    #[error("cannot {what}")]
    Refused {
        /// A verb and its object.
        what: &'static str,
        /// Why it refused.
        source: io::Error,
    },
    /// A guest ran, and something that every CPU does went wrong.
    #[error("in a guest of this KVM, {what} does not work: {failure}")]
    Unfit {
        /// What was tried.
        what: Step,
        /// How it went wrong.
        failure: Failure,
    },
}

impl SelfTestError {
    /// For `map_err` behind a request to KVM.
    fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> Self {
        move |error| Self::Refused { what, source: error.into() }
    }

    /// For `map_err` behind a request to the host's kernel.
    fn host(what: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Refused { what, source }
    }
}

/// How a step of the guest went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guest saw a result that no CPU gives.
    #[error("the guest got a wrong result")]
    WrongResult,
    /// The guest got an exception.
    #[error("the guest got an exception")]
    Exception,
    /// KVM gave up (`KVM_EXIT_INTERNAL_ERROR`).
    #[error("KVM could not carry out an instruction")]
    Emulation,
    /// The guest could not even be told of an exception (`KVM_EXIT_SHUTDOWN`).
    #[error("the guest got a triple fault")]
    TripleFault,
    /// The guest could not be entered (`KVM_EXIT_FAIL_ENTRY`).
    #[error("the CPU refused to enter the guest")]
    EntryRefused,
    /// The guest left for no reason that it has.
    #[error("the guest left unexpectedly")]
    UnexpectedExit,
    /// The guest did not come to an end.
    #[error("the guest hangs")]
    Hang,
}

fn open() -> Result<Kvm, SelfTestError> {
    let kvm = Kvm::new().map_err(|error| open_error(error.into()))?;
    let version = kvm.get_api_version();
    if version == API_VERSION { Ok(kvm) } else { Err(SelfTestError::OldApi { version }) }
}

fn open_error(source: io::Error) -> SelfTestError {
    match source.kind() {
        io::ErrorKind::NotFound => SelfTestError::NoDevice { source },
        io::ErrorKind::PermissionDenied => SelfTestError::Permission { source },
        // A device file without a driver behind it.
        _ if source.raw_os_error() == Some(libc::ENODEV) => SelfTestError::NoDevice { source },
        _ if source.raw_os_error() == Some(libc::ENXIO) => SelfTestError::NoDevice { source },
        _ => SelfTestError::Refused { what: "open /dev/kvm", source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_opening_says_is_told_apart() {
        let error = |errno| open_error(io::Error::from_raw_os_error(errno));
        assert!(matches!(error(libc::ENOENT), SelfTestError::NoDevice { .. }));
        assert!(matches!(error(libc::ENODEV), SelfTestError::NoDevice { .. }));
        assert!(matches!(error(libc::EACCES), SelfTestError::Permission { .. }));
        assert!(matches!(error(libc::EMFILE), SelfTestError::Refused { .. }));
    }

    #[test]
    fn an_unfit_kvm_is_named_in_one_line() {
        let error = SelfTestError::Unfit { what: Step::SystemCall, failure: Failure::WrongResult };
        assert_eq!(
            error.to_string(),
            "in a guest of this KVM, SYSCALL from ring 3 into ring 0 does not work: \
             the guest got a wrong result"
        );
    }
}
