//! What is started: a way to start a program, how much memory its machine has, and of how many
//! layers its image is.

use super::Part;

/// The size of a machine where nothing else is said.
pub(crate) const USUAL_MIB: u32 = 512;
/// From the least to the most, in MiB, for how starts grow with the guest's memory.
pub(crate) const MEMORIES_MIB: [u32; 4] = [128, USUAL_MIB, 1024, 4096];
/// From the least to the most, for how starts grow with an image's layers. Of one layer is Debian's.
pub(crate) const LAYERS: [u32; 4] = [1, 10, 20, 40];

/// How a program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `/bin/true`, to its end: it shows nothing.
    True,
    /// By itself.
    Bare,
    /// By `crun run`.
    Crun,
    /// By `podman run`.
    Podman,
    /// As the init of a QEMU microvm.
    Qemu,
    /// By `hyperrun run --no-template`, as long as no machine has prepared the kernel.
    First,
    /// By `hyperrun run --no-template`.
    Cold,
    /// By `hyperrun run`.
    Template,
}

impl Way {
    /// Whether it is what is measured, and no peer.
    pub(crate) fn is_hyperrun(self) -> bool {
        matches!(self, Way::First | Way::Cold | Way::Template)
    }
}

/// The program that shows a first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The static `first-line`, in an image of its own.
    FirstLine,
    /// `echo` in a Debian image: several shared libraries and a file system of some size.
    Echo,
}

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) way: Way,
    pub(crate) program: Program,
    pub(crate) memory_mib: u32,
    pub(crate) layers: u32,
}

impl Subject {
    /// One that starts `echo` in Debian's image, with the usual memory where it has a machine. With
    /// QEMU there is no image: what it starts is the static program, as init.
    pub(crate) const fn new(way: Way) -> Subject {
        Subject { way, program: Program::Echo, memory_mib: USUAL_MIB, layers: LAYERS[0] }
    }

    const fn first_line(way: Way) -> Subject {
        Subject { program: Program::FirstLine, ..Subject::new(way) }
    }

    /// The same with another amount of memory.
    pub(crate) const fn with_memory(self, memory_mib: u32) -> Subject {
        Subject { memory_mib, ..self }
    }

    /// The same with another number of layers.
    pub(crate) const fn with_layers(self, layers: u32) -> Subject {
        Subject { layers, ..self }
    }

    /// Whether it is one of the plain ones, which the first table and the JSON file's keys are about.
    pub(crate) fn is_usual(self) -> bool {
        self.memory_mib == USUAL_MIB && self.layers == LAYERS[0]
    }

    /// What a person reads.
    pub(crate) fn label(self) -> String {
        let program = match self.program {
            Program::FirstLine => "static program",
            Program::Echo => "Debian's echo",
        };
        let mut label = match self.way {
            Way::True => "/bin/true".to_owned(),
            Way::Bare => "static program".to_owned(),
            Way::Crun => format!("crun run, {program}"),
            Way::Podman => format!("podman run, {program}"),
            Way::Qemu => "QEMU microvm, to init".to_owned(),
            Way::First => format!("hyperrun, booted as the first, {program}"),
            Way::Cold => format!("hyperrun, booted, {program}"),
            Way::Template => format!("hyperrun run, {program}"),
        };
        if self.memory_mib != USUAL_MIB {
            label += &format!(", {} MiB", self.memory_mib);
        }
        if self.layers != LAYERS[0] {
            label += &format!(", {} layers", self.layers);
        }
        label
    }

    /// The beginning of its keys in the JSON file; what is not usual stands under `growth` there.
    pub(crate) fn key(self) -> String {
        let stem = match self.way {
            Way::True => return "true".to_owned(),
            Way::Bare => return "first_line".to_owned(),
            Way::Crun => "crun_run",
            Way::Podman => "podman_run",
            Way::Qemu => "qemu_init",
            Way::First => "first_cold",
            Way::Cold => "cold",
            Way::Template => "template",
        };
        match self.program {
            Program::FirstLine => format!("first_line_{stem}"),
            Program::Echo => stem.to_owned(),
        }
    }
}

/// All that take turns for these parts, in the table's order.
pub(crate) fn subjects(wants: impl Fn(Part) -> bool) -> Vec<Subject> {
    use Way::{Bare, Cold, Crun, First, Podman, Qemu, Template, True};
    let mut subjects = Vec::new();
    if wants(Part::Starts) {
        subjects.extend([Subject::new(True), Subject::first_line(Bare)]);
        subjects.extend([Subject::first_line(Crun), Subject::new(Crun), Subject::new(Podman)]);
        subjects.extend([Subject::new(Qemu), Subject::new(First)]);
        subjects.extend([Subject::first_line(Cold), Subject::new(Cold)]);
        subjects.extend([Subject::first_line(Template), Subject::new(Template)]);
    }
    if wants(Part::GuestMemory) {
        for way in [Qemu, Cold, Template] {
            subjects.extend(MEMORIES_MIB.map(|mib| Subject::new(way).with_memory(mib)));
        }
    }
    if wants(Part::Layers) {
        subjects.extend(LAYERS.map(|layers| Subject::new(Template).with_layers(layers)));
    }
    let mut seen = Vec::new();
    subjects.retain(|subject| {
        let is_new = !seen.contains(subject);
        seen.push(*subject);
        is_new
    });
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_takes_two_turns_in_a_round() {
        let all = subjects(|_| true);
        assert_eq!(all.len(), 11 + 3 * 3 + 3);
        let labels: std::collections::BTreeSet<_> = all.iter().map(|it| it.label()).collect();
        assert_eq!(labels.len(), all.len());
        assert_eq!(subjects(|part| part == Part::Layers).len(), LAYERS.len());
        assert!(subjects(|part| part == Part::Idle).is_empty());
    }

    #[test]
    fn the_keys_without_a_program_are_about_debian() {
        let keys = [Subject::new(Way::Crun), Subject::first_line(Way::Template)].map(Subject::key);
        assert_eq!(keys, ["crun_run", "first_line_template"]);
    }
}
