//! What CPUID tells each vCPU: what KVM supports, with a topology of single-threaded cores.

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Leaf 1, ECX: the timer has a deadline mode. KVM emulates it on every host.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: this is a virtual machine.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the number of logical processors is in EBX.
const HYPER_THREADING: u32 = 1 << 28;
/// Leaf 6, ECX: the energy-performance bias, which KVM has no register for.
const ENERGY_PERFORMANCE_BIAS: u32 = 1 << 3;
/// Leaf 0x8000_0001, ECX: several cores are cores, not threads (AMD).
const AMD_LEGACY_MULTI_CORE: u32 = 1 << 1;
/// Leaf 0x8000_0001, ECX: counters that KVM is not asked to give.
const AMD_PERFORMANCE_COUNTERS: u32 = (1 << 23) | (1 << 24) | (1 << 28);
/// Level types of leaves 0xb and 0x1f.
const LEVEL_THREAD: u32 = 1;
const LEVEL_CORE: u32 = 2;

/// A vCPU's place among its like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topology {
    /// This vCPU, which is also its APIC id.
    pub(crate) index: u8,
    /// How many there are.
    pub(crate) vcpus: u8,
}

impl Topology {
    /// How many bits of an APIC id tell a core.
    fn core_bits(self) -> u32 {
        u32::from(self.vcpus).next_power_of_two().trailing_zeros()
    }

    fn id(self) -> u32 {
        u32::from(self.index)
    }

    fn count(self) -> u32 {
        u32::from(self.vcpus)
    }
}

/// The entries for one vCPU, from those that KVM supports.
pub(crate) fn for_vcpu(supported: &CpuId, topology: Topology) -> CpuId {
    let mut entries: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .filter(|entry| !matches!(entry.function, 0xb | 0x1f))
        .copied()
        .collect();
    for entry in &mut entries {
        adjust(entry, topology);
    }
    let highest = entries.iter().find(|e| e.function == 0).map_or(0, |e| e.eax);
    for leaf in [0xb, 0x1f] {
        if highest >= leaf {
            entries.extend(topology_leaf(leaf, topology));
        }
    }
    CpuId::from_entries(&entries).expect("a few entries more than KVM gave fit in the list")
}

fn adjust(entry: &mut kvm_cpuid_entry2, topology: Topology) {
    let (id, count) = (topology.id(), topology.count());
    match (entry.function, entry.index) {
        (0x1, _) => {
            entry.ebx = (entry.ebx & 0xffff) | (count << 16) | (id << 24);
            entry.ecx |= TSC_DEADLINE | HYPERVISOR;
            entry.edx = with_bit(entry.edx, HYPER_THREADING, count > 1);
        }
        // Intel's caches: the last level is shared by all, the others by none.
        (0x4, _) if entry.eax & 0x1f != 0 => {
            let sharing = if (entry.eax >> 5) & 0x7 >= 3 { count - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | (sharing << 14) | ((count - 1) << 26);
        }
        (0x6, _) => entry.ecx &= !ENERGY_PERFORMANCE_BIAS,
        // No performance counters.
        (0xa, _) => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        (0x8000_0001, _) => {
            entry.ecx &= !AMD_PERFORMANCE_COUNTERS;
            entry.ecx = with_bit(entry.ecx, AMD_LEGACY_MULTI_CORE, count > 1);
        }
        (0x8000_0008, _) => {
            entry.ecx = (entry.ecx & !0xf0ff) | (count - 1) | (topology.core_bits() << 12);
        }
        // AMD's caches, as Intel's.
        (0x8000_001d, _) if entry.eax & 0x1f != 0 => {
            let sharing = if (entry.eax >> 5) & 0x7 >= 3 { count - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | (sharing << 14);
        }
        // One thread per core, one node.
        (0x8000_001e, _) => (entry.eax, entry.ebx, entry.ecx) = (id, id, 0),
        _ => {}
    }
}

/// The levels of leaf 0xb or 0x1f: one thread per core, all cores in one package.
fn topology_leaf(function: u32, topology: Topology) -> [kvm_cpuid_entry2; 3] {
    let level = |index, shift, count, kind: u32| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax: shift,
        ebx: count,
        ecx: (kind << 8) | index,
        edx: topology.id(),
        ..Default::default()
    };
    [
        level(0, 0, 1, LEVEL_THREAD),
        level(1, topology.core_bits(), topology.count(), LEVEL_CORE),
        level(2, 0, 0, 0),
    ]
}

fn with_bit(value: u32, bit: u32, on: bool) -> u32 {
    if on { value | bit } else { value & !bit }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(function: u32, index: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 { function, index, ..Default::default() }
    }

    fn find(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let found = cpuid.as_slice().iter().find(|e| (e.function, e.index) == (function, index));
        *found.expect("the leaf is there")
    }

    fn supported() -> CpuId {
        let entries = [
            kvm_cpuid_entry2 { eax: 0xd, ..entry(0, 0) },
            kvm_cpuid_entry2 { ebx: 0xff00_0800, edx: HYPER_THREADING, ..entry(1, 0) },
            kvm_cpuid_entry2 { eax: 0xffff_c121, ..entry(4, 0) },
            kvm_cpuid_entry2 { eax: 0xffff_c163, ..entry(4, 3) },
            kvm_cpuid_entry2 { ebx: 99, ..entry(0xb, 0) },
            kvm_cpuid_entry2 { ebx: 99, ..entry(0xb, 1) },
            kvm_cpuid_entry2 { eax: 0x4b4d, ..entry(0x4000_0000, 0) },
            entry(0x8000_0008, 0),
            entry(0x8000_001e, 0),
        ];
        CpuId::from_entries(&entries).expect("they fit")
    }

    #[test]
    fn each_vcpu_has_its_own_id() {
        for index in [0, 2] {
            let cpuid = for_vcpu(&supported(), Topology { index, vcpus: 3 });
            let leaf = find(&cpuid, 1, 0);
            assert_eq!(leaf.ebx, (u32::from(index) << 24) | (3 << 16) | 0x0800);
            assert_eq!(leaf.ecx, TSC_DEADLINE | HYPERVISOR);
            assert_eq!(find(&cpuid, 0xb, 1).edx, u32::from(index));
            assert_eq!(find(&cpuid, 0x8000_001e, 0).eax, u32::from(index));
        }
    }

    #[test]
    fn the_topology_is_one_package_of_single_threaded_cores() {
        let cpuid = for_vcpu(&supported(), Topology { index: 1, vcpus: 3 });
        assert_eq!(find(&cpuid, 0xb, 0).ebx, 1);
        assert_eq!((find(&cpuid, 0xb, 1).eax, find(&cpuid, 0xb, 1).ebx), (2, 3));
        assert_eq!(cpuid.as_slice().iter().filter(|e| e.function == 0xb).count(), 3);
        assert!(!cpuid.as_slice().iter().any(|e| e.function == 0x1f));
        assert_eq!(find(&cpuid, 4, 0).eax, 0x121 | (2 << 26));
        assert_eq!(find(&cpuid, 4, 3).eax, 0x163 | (2 << 14) | (2 << 26));
        assert_eq!(find(&cpuid, 0x8000_0008, 0).ecx, 2 | (2 << 12));
    }

    #[test]
    fn one_vcpu_has_no_threads_and_keeps_the_hypervisor_leaves() {
        let cpuid = for_vcpu(&supported(), Topology { index: 0, vcpus: 1 });
        assert_eq!(find(&cpuid, 1, 0).edx & HYPER_THREADING, 0);
        assert_eq!(find(&cpuid, 0xb, 1).eax, 0);
        assert_eq!(find(&cpuid, 0x4000_0000, 0).eax, 0x4b4d);
    }
}
