//! A vCPU's state: everything that KVM tells about it.
#![allow(unsafe_code, reason = "KVM_SET_XSAVE may read more than the structure it is given")]

use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, KVM_MAX_MSR_ENTRIES, Msrs, kvm_cpuid_entry2, kvm_debugregs,
    kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events, kvm_xcrs,
    kvm_xsave,
};
use kvm_ioctls::{Cap, Kvm, VcpuFd};
use serde::{Deserialize, Serialize};

use super::SnapshotError;

/// The timer's deadline; 0 when it is not armed, or has fired and nobody has noticed yet.
const IA32_TSC_DEADLINE: u32 = 0x6e0;
/// The time stamp counter.
const IA32_TSC: u32 = 0x10;
/// How far away from another a time is that has nothing to do with it, for KVM: that is more than a
/// second.
const SECONDS_AWAY: u64 = 10;
/// How far two measurements of one frequency may be apart, in millionths: no further than the host's
/// own clock may go wrong, which nobody sets in a guest either.
const MEASURED_WITHIN_PPM: u64 = 20;
/// The local APIC's timer register, and the bits of its mode: deadline.
const APIC_LVTT: usize = 0x320;
const APIC_TIMER_MODE: u32 = 3 << 17;
const APIC_TIMER_DEADLINE: u32 = 2 << 17;

/// One vCPU.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CpuState {
    cpuid: Vec<kvm_cpuid_entry2>,
    /// Numbers and values.
    msrs: Vec<(u32, u64)>,
    regs: kvm_regs,
    sregs: kvm_sregs,
    /// [`kvm_xsave`] by its words.
    xsave: Vec<u32>,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    lapic: kvm_lapic_state,
    mp_state: kvm_mp_state,
    events: kvm_vcpu_events,
    tsc_khz: u32,
}

/// Lets KVM finish the access for which the vCPU left the guest last; until then its registers are
/// not what they seem (Documentation/virt/kvm/api.rst, `KVM_RUN`).
pub(crate) fn finish_pending(vcpu: &mut VcpuFd) {
    vcpu.set_kvm_immediate_exit(1);
    // It returns at once, with EINTR.
    let _ = vcpu.run();
    vcpu.set_kvm_immediate_exit(0);
}

impl CpuState {
    /// Takes the state of a vCPU that does not run and has nothing pending.
    ///
    /// # Errors
    /// When KVM refuses, or the vCPU has more registers than are saved.
    pub(crate) fn save(kvm: &Kvm, vcpu: &VcpuFd) -> Result<Self, SnapshotError> {
        if usize::try_from(kvm.check_extension_int(Cap::Xsave2)).unwrap_or(0)
            > size_of::<kvm_xsave>()
        {
            return Err(SnapshotError::Unfit { what: "the processor has too many registers" });
        }
        let failed = SnapshotError::kvm;
        // This one first: it may change the others.
        let mp_state = vcpu.get_mp_state().map_err(failed("get a vCPU's run state"))?;
        let regs = vcpu.get_regs().map_err(failed("get a vCPU's registers"))?;
        let sregs = vcpu.get_sregs().map_err(failed("get a vCPU's special registers"))?;
        let xsave = vcpu.get_xsave().map_err(failed("get a vCPU's vector registers"))?;
        let xcrs = vcpu.get_xcrs().map_err(failed("get a vCPU's control registers"))?;
        let debug = vcpu.get_debug_regs().map_err(failed("get a vCPU's debug registers"))?;
        let lapic = vcpu.get_lapic().map_err(failed("get a vCPU's interrupt controller"))?;
        let tsc_khz = vcpu.get_tsc_khz().map_err(failed("get a vCPU's frequency"))?;
        let cpuid = vcpu
            .get_cpuid2(KVM_MAX_CPUID_ENTRIES)
            .map_err(failed("get a vCPU's features"))?
            .as_slice()
            .to_vec();
        let mut msrs = get_msrs(kvm, vcpu)?;
        rearm_fired_timer(&mut msrs, &lapic);
        let events = vcpu.get_vcpu_events().map_err(failed("get a vCPU's events"))?;
        Ok(Self {
            cpuid,
            msrs,
            regs,
            sregs,
            xsave: xsave.region.to_vec(),
            xcrs,
            debug,
            lapic,
            mp_state,
            events,
            tsc_khz,
        })
    }

    /// Brings the time stamp counter of a machine's first vCPU far away from where it begins. KVM takes
    /// a value that is within a second of the one it expects for an attempt to let the vCPUs agree, and
    /// keeps its own: before Linux 6.7 the counter of a guest that was saved in its first second would
    /// begin at 0 again, and the guest's clock stand still until that second is over.
    ///
    /// The later vCPUs are to agree with the first, so that they are written once.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn leave_initial_time(&self, vcpu: &VcpuFd) -> Result<(), SnapshotError> {
        let away = u64::from(self.tsc_khz) * 1000 * SECONDS_AWAY;
        match self.msrs.iter().find(|(index, _)| *index == IA32_TSC) {
            Some((index, now)) => set_msrs(vcpu, &[(*index, now.wrapping_add(away))]),
            None => Ok(()),
        }
    }

    /// Puts the state into a new vCPU.
    ///
    /// # Errors
    /// When KVM refuses, or this processor's clock runs at another frequency.
    pub(crate) fn restore(&self, vcpu: &VcpuFd) -> Result<(), SnapshotError> {
        let failed = SnapshotError::kvm;
        let tsc_khz = vcpu.get_tsc_khz().map_err(failed("get a vCPU's frequency"))?;
        if !is_same_frequency(tsc_khz, self.tsc_khz) {
            return Err(SnapshotError::Unfit { what: "the processor has another frequency" });
        }
        let (cpuid, xsave) = (self.cpuid()?, self.xsave()?);
        vcpu.set_cpuid2(&cpuid).map_err(failed("set a vCPU's features"))?;
        vcpu.set_mp_state(self.mp_state).map_err(failed("set a vCPU's run state"))?;
        vcpu.set_regs(&self.regs).map_err(failed("set a vCPU's registers"))?;
        vcpu.set_sregs(&self.sregs).map_err(failed("set a vCPU's special registers"))?;
        // SAFETY: KVM reads as many bytes as `KVM_CAP_XSAVE2` says, which `save` has found to be no
        // more than the structure has: without dynamic features asked for, that never grows.
        let set = unsafe { vcpu.set_xsave(&xsave) };
        set.map_err(failed("set a vCPU's vector registers"))?;
        vcpu.set_xcrs(&self.xcrs).map_err(failed("set a vCPU's control registers"))?;
        vcpu.set_debug_regs(&self.debug).map_err(failed("set a vCPU's debug registers"))?;
        vcpu.set_lapic(&self.lapic).map_err(failed("set a vCPU's interrupt controller"))?;
        // The timer's deadline means something only to an interrupt controller that is there.
        set_msrs(vcpu, &self.msrs)?;
        vcpu.set_vcpu_events(&self.events).map_err(failed("set a vCPU's events"))?;
        // The guest's watchdogs shall not take the pause for a hang; not every guest has asked for
        // the clock that this needs.
        let _ = vcpu.kvmclock_ctrl();
        Ok(())
    }

    /// The features, as KVM takes them.
    ///
    /// # Errors
    /// When they are more than it takes.
    pub(crate) fn cpuid(&self) -> Result<CpuId, SnapshotError> {
        CpuId::from_entries(&self.cpuid)
            .map_err(|_| SnapshotError::Damaged { what: "it has too many CPUID leaves" })
    }

    /// The vector registers, as KVM takes them.
    ///
    /// # Errors
    /// When they are not as many.
    pub(crate) fn xsave(&self) -> Result<kvm_xsave, SnapshotError> {
        let damaged = SnapshotError::Damaged { what: "a vCPU's vector registers" };
        let mut xsave = kvm_xsave::default();
        xsave.region = self.xsave.as_slice().try_into().map_err(|_| damaged)?;
        Ok(xsave)
    }
}

/// Whether two frequencies are one, measured twice. A host whose processor does not tell it measures it
/// at each boot, and finds another number in the last digits.
fn is_same_frequency(one_khz: u32, other_khz: u32) -> bool {
    u64::from(one_khz.abs_diff(other_khz)) * 1_000_000 <= u64::from(one_khz) * MEASURED_WITHIN_PPM
}

/// All that KVM lists, without those that this vCPU lacks.
fn get_msrs(kvm: &Kvm, vcpu: &VcpuFd) -> Result<Vec<(u32, u64)>, SnapshotError> {
    let failed = SnapshotError::kvm("get a vCPU's MSRs");
    let indices = kvm.get_msr_index_list().map_err(&failed)?;
    let mut left = indices.as_slice();
    let mut found = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let (some, _) = left.split_at(left.len().min(KVM_MAX_MSR_ENTRIES));
        let entries: Vec<_> = some
            .iter()
            .map(|index| kvm_msr_entry { index: *index, ..Default::default() })
            .collect();
        let mut msrs = Msrs::from_entries(&entries).expect("as many as fit");
        let count = vcpu.get_msrs(&mut msrs).map_err(&failed)?;
        found.extend(msrs.as_slice()[..count].iter().map(|entry| (entry.index, entry.data)));
        // The one behind those that were read cannot be.
        left = &left[left.len().min((count + 1).min(some.len()))..];
    }
    Ok(found)
}

fn set_msrs(vcpu: &VcpuFd, msrs: &[(u32, u64)]) -> Result<(), SnapshotError> {
    let failed = SnapshotError::kvm("set a vCPU's MSRs");
    let mut left = msrs;
    while !left.is_empty() {
        let some = &left[..left.len().min(KVM_MAX_MSR_ENTRIES)];
        let entries: Vec<_> = some
            .iter()
            .map(|(index, data)| kvm_msr_entry { index: *index, data: *data, ..Default::default() })
            .collect();
        let entries = Msrs::from_entries(&entries).expect("as many as fit");
        let count = vcpu.set_msrs(&entries).map_err(&failed)?;
        match some.get(count) {
            None => left = &left[some.len()..],
            // Some can be read and not written: fine where they are as they were.
            Some((index, data)) if get_msr(vcpu, *index) == Some(*data) => {
                left = &left[count + 1..];
            }
            Some(_) => return Err(SnapshotError::Unfit { what: "the processor lacks a register" }),
        }
    }
    Ok(())
}

fn get_msr(vcpu: &VcpuFd, index: u32) -> Option<u64> {
    let entry = kvm_msr_entry { index, ..Default::default() };
    let mut msrs = Msrs::from_entries(&[entry]).expect("one fits");
    let count = vcpu.get_msrs(&mut msrs).ok()?;
    msrs.as_slice().get(..count)?.first().map(|entry| entry.data)
}

/// A deadline that has passed reads 0, and the interrupt for it may not have been delivered: it is
/// set to now, so that it passes again. To a timer that was never armed that is one interrupt for
/// nothing.
fn rearm_fired_timer(msrs: &mut [(u32, u64)], lapic: &kvm_lapic_state) {
    let bytes = std::array::from_fn(|at| lapic.regs[APIC_LVTT + at].cast_unsigned());
    if u32::from_le_bytes(bytes) & APIC_TIMER_MODE != APIC_TIMER_DEADLINE {
        return;
    }
    let now = msrs.iter().find(|(index, _)| *index == IA32_TSC).map(|(_, value)| *value);
    let deadline = msrs.iter_mut().find(|(index, _)| *index == IA32_TSC_DEADLINE);
    if let (Some(now), Some((_, deadline @ 0))) = (now, deadline) {
        *deadline = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lapic(mode: u32) -> kvm_lapic_state {
        let mut lapic = kvm_lapic_state::default();
        for (at, byte) in mode.to_le_bytes().into_iter().enumerate() {
            lapic.regs[APIC_LVTT + at] = byte.cast_signed();
        }
        lapic
    }

    #[test]
    fn a_frequency_may_be_measured_twice() {
        let cases = [
            (2_600_000, 2_600_000, true),
            (2_599_995, 2_600_001, true),
            (2_600_000, 2_600_060, false),
            (2_600_000, 2_500_000, false),
            (0, 0, true),
            (0, 1, false),
            (u32::MAX, 0, false),
        ];
        for (one, other, same) in cases {
            assert_eq!(is_same_frequency(one, other), same, "{one} {other}");
        }
    }

    #[test]
    fn a_timer_that_has_fired_fires_again() {
        let before = [(IA32_TSC, 1000), (IA32_TSC_DEADLINE, 0)];
        for (mode, deadline) in [(APIC_TIMER_DEADLINE | 0xec, 1000), (0xec, 0), (1 << 17, 0)] {
            let mut msrs = before;
            rearm_fired_timer(&mut msrs, &lapic(mode));
            assert_eq!(msrs[1].1, deadline, "{mode:#x}");
        }
        let mut armed = [(IA32_TSC, 1000), (IA32_TSC_DEADLINE, 7)];
        rearm_fired_timer(&mut armed, &lapic(APIC_TIMER_DEADLINE));
        assert_eq!(armed[1].1, 7);
    }
}
