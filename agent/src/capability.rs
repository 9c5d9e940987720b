//! Gives up the agent's power: capabilities, then groups, then the user.

use protocol::Capabilities;
use rustix::{
    fs::{Gid, Uid},
    io::Errno,
    thread::{
        CapabilitySet, CapabilitySets, clear_ambient_capability_set,
        remove_capability_from_bounding_set, set_capabilities, set_thread_groups,
        set_thread_res_gid, set_thread_res_uid,
    },
};

use crate::{
    step::{Doing, StepError},
    user::Account,
};

/// Makes the calling process, which has one thread, run as `account` with no more than `reach` in
/// reach; root has that, others have none of it.
pub(crate) fn become_account(account: &Account, reach: Capabilities) -> Result<(), StepError> {
    // Bits that this kernel does not know are no error to capset(2).
    let reach = CapabilitySet::from_bits_retain(reach.bits);
    drop_from_bounding_set(reach)?;
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    let groups: Vec<Gid> = account.groups.iter().map(|group| Gid::from_raw(*group)).collect();
    set_thread_groups(&groups).doing("set the supplementary groups")?;
    set_thread_res_gid(gid, gid, gid).doing("set the group")?;
    // From root to another user the kernel clears the effective and permitted sets.
    set_thread_res_uid(uid, uid, uid).doing("set the user")?;
    let held = if uid.is_root() { reach } else { CapabilitySet::empty() };
    let sets =
        CapabilitySets { effective: held, permitted: held, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets).doing("set the capabilities")?;
    clear_ambient_capability_set().doing("clear the ambient capabilities")
}

/// Goes through all capabilities this kernel knows, also those younger than this program.
fn drop_from_bounding_set(reach: CapabilitySet) -> Result<(), StepError> {
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if reach.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error).doing("drop a capability"),
        }
    }
    Ok(())
}
