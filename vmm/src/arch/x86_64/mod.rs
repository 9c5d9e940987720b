//! x86-64: where things lie, and the state a 64-bit Linux kernel is entered with.

pub(crate) mod boot_params;
pub(crate) mod cpuid;
pub(crate) mod layout;
pub(crate) mod mptable;
pub(crate) mod msrs;
pub(crate) mod regs;
