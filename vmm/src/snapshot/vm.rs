//! The state of what all vCPUs share: interrupt controllers, interval timer, clock.

use kvm_bindings::{
    KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, kvm_clock_data, kvm_irqchip,
    kvm_pit_state2,
};
use kvm_ioctls::VmFd;
use serde::{Deserialize, Serialize};

use super::SnapshotError;

/// Every interrupt controller of the machine.
const CHIPS: [u32; 3] = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];

/// Interrupt controllers, timer and clock.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct VmState {
    chips: Vec<Chip>,
    pit: kvm_pit_state2,
    /// Of the guest's clock, in nanoseconds; it stands still while the machine is saved.
    clock_ns: u64,
}

/// [`kvm_irqchip`] by its bytes, since a union has no equality.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chip(Vec<u8>);

impl VmState {
    /// Takes the state of a machine whose vCPUs do not run.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn save(vm: &VmFd) -> Result<Self, SnapshotError> {
        let failed = SnapshotError::kvm;
        let mut chips = Vec::with_capacity(CHIPS.len());
        for chip_id in CHIPS {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map_err(failed("get an interrupt controller"))?;
            chips.push(Chip(postcard::to_stdvec(&chip).expect("it is a few plain bytes")));
        }
        let pit = vm.get_pit2().map_err(failed("get the interval timer"))?;
        let clock = vm.get_clock().map_err(failed("get the guest's clock"))?;
        Ok(Self { chips, pit, clock_ns: clock.clock })
    }

    /// Puts the state into a machine that has its vCPUs.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn restore(&self, vm: &VmFd) -> Result<(), SnapshotError> {
        let failed = SnapshotError::kvm;
        let chips = self.chips()?;
        vm.set_pit2(&self.pit).map_err(failed("set the interval timer"))?;
        let clock = kvm_clock_data { clock: self.clock_ns, ..Default::default() };
        vm.set_clock(&clock).map_err(failed("set the guest's clock"))?;
        for chip in chips {
            vm.set_irqchip(&chip).map_err(failed("set an interrupt controller"))?;
        }
        Ok(())
    }

    /// The interrupt controllers, as KVM takes them.
    ///
    /// # Errors
    /// When one is missing, or something else.
    pub(crate) fn chips(&self) -> Result<Vec<kvm_irqchip>, SnapshotError> {
        if self.chips.len() != CHIPS.len() {
            return Err(SnapshotError::Damaged { what: "it lacks an interrupt controller" });
        }
        let chip = |(Chip(bytes), chip_id): (&Chip, u32)| match postcard::take_from_bytes::<
            kvm_irqchip,
        >(bytes)
        {
            Ok((chip, [])) if chip.chip_id == chip_id => Ok(chip),
            _ => Err(SnapshotError::Damaged { what: "an interrupt controller" }),
        };
        self.chips.iter().zip(CHIPS).map(chip).collect()
    }

    /// That of a machine that has just been made, for tests without KVM.
    #[cfg(test)]
    pub(crate) fn fresh() -> Self {
        let chip = |chip_id| kvm_irqchip { chip_id, ..Default::default() };
        let bytes = |chip_id| postcard::to_stdvec(&chip(chip_id)).expect("a few plain bytes");
        Self { chips: CHIPS.map(bytes).map(Chip).into(), ..Self::default() }
    }
}
