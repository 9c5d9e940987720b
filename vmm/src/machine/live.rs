//! A machine that is saved while it lives, by orders: first what needs no pause is written, then the machine
//! stands still for the rest.

use std::fs::File;
use std::sync::mpsc::RecvError;

use super::{Machine, Pagemap};
use crate::config::{DiskBacking, MachineConfig, SnapshotFiles};
use crate::error::{Error, chain};
use crate::event::{Event, LiveSave};
use crate::exit::Exit;
use crate::layers::{self, Layers, PAGE, Pieces};
use crate::memory;
use crate::order::{AfterSave, Parent, SaveFiles};
use crate::snapshot::{self, Saved, SnapshotError};
use crate::sparse;
use crate::wake::{Ending, Wake};

/// What a machine is made of that is saved with it.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// What its disks have written, in their order.
    overlays: Vec<File>,
    /// What lies behind pieces of its memory, if it goes on where another machine was saved.
    beneath: Layers,
    /// Those pieces, as addresses.
    pieces: Pieces,
    is_traced: bool,
}

/// What was begun.
#[derive(Debug)]
pub(super) struct Begun {
    files: SnapshotFiles,
    overlays: Vec<File>,
    pagemap: Pagemap,
    past: Option<Past>,
    copied: u64,
}

/// What was saved before, of which only what differs is to be written.
#[derive(Debug)]
struct Past {
    memory: Layers,
    overlays: Vec<Layers>,
}

impl Belongings {
    /// Those of a machine that is to be made.
    pub(super) fn of(config: &MachineConfig) -> Result<Self, Error> {
        let overlay = |backing: &DiskBacking| match backing {
            DiskBacking::ReadOnly { .. } => None,
            DiskBacking::CopyOnWrite { overlay, .. } => Some(overlay.try_clone()),
        };
        let overlays = config.disks.iter().filter_map(|disk| overlay(&disk.backing));
        let overlays = overlays.collect::<Result<_, _>>();
        let overlays = overlays.map_err(Error::host("copy a disk's descriptor"))?;
        Ok(Self { overlays, is_traced: config.trace, ..Self::default() })
    }

    /// Its memory of `bytes` is what these files have at these pieces, and what is written over that.
    pub(super) fn lie_over(
        &mut self,
        bytes: u64,
        files: Vec<File>,
        pieces: &[Pieces],
    ) -> Result<(), SnapshotError> {
        self.beneath = memory::layers(bytes, files, pieces).map_err(SnapshotError::Read)?;
        let mut all: Pieces = pieces.concat();
        all.sort_unstable();
        for (start, length) in all {
            layers::append(&mut self.pieces, start, length);
        }
        Ok(())
    }

    /// What was saved before; none if that cannot be read or is of another kind of machine.
    fn past(&self, memory_mib: u32, parent: Parent) -> Option<Past> {
        let Parent { mut state, memory, overlays } = parent;
        let state = snapshot::read(&mut state).ok()?;
        let bytes = u64::from(memory_mib) << 20;
        let fits = state.memory_mib == memory_mib && overlays.len() == self.overlays.len();
        if !fits || memory.iter().any(|file| snapshot::check_memory(file, bytes).is_err()) {
            return None;
        }
        let memory = memory::layers(bytes, memory, &state.memory).ok()?;
        if state.disks.len() != overlays.len() {
            return None;
        }
        let disks = overlays.into_iter().zip(state.disks).zip(&self.overlays);
        let disk = |((files, pieces), own): ((Vec<File>, Vec<Pieces>), &File)| {
            let layers = Layers::new(files, pieces).ok()?;
            let length = own.metadata().ok()?.len();
            let is_alike = layers.bytes().ok()? == length && length.is_multiple_of(PAGE as u64);
            is_alike.then_some(layers)
        };
        Some(Past { memory, overlays: disks.map(disk).collect::<Option<_>>()? })
    }
}

/// What becomes of an order to go on with nothing.
pub(super) fn nothing_begun() -> Event {
    Event::Live(LiveSave::Failed("nothing was begun".to_owned()))
}

impl Machine {
    /// Writes what files have behind the memory, which never changes, if there is no past to lie over.
    pub(super) fn begin_live(&mut self, files: SaveFiles) -> Event {
        let SaveFiles { machine: files, overlays, parent, pagemap } = files;
        let Belongings { overlays: own, beneath, is_traced, .. } = &self.belongings;
        // A vCPU may wait for somebody to read a line, and would not stop.
        let refusal = is_traced.then_some("a machine whose kernel speaks cannot be saved");
        let unequal = (own.len() != overlays.len()).then_some("it has another number of disks");
        if let Some(refusal) = refusal.or(unequal) {
            return Event::Live(LiveSave::Failed(refusal.to_owned()));
        }
        let past = parent.and_then(|parent| self.belongings.past(self.memory_mib, parent));
        let copied = if past.is_some() { Ok(0) } else { beneath.copy_to(&files.memory) };
        match copied.map_err(SnapshotError::Write) {
            Ok(copied) => {
                let pagemap = Pagemap::opened(pagemap);
                self.begun = Some(Begun { files, overlays, pagemap, past, copied });
                Event::Live(LiveSave::Begun)
            }
            Err(error) => Event::Live(LiveSave::Failed(chain(&error))),
        }
    }

    /// Writes the rest of a machine that stands still; its end, if it is not to go on.
    pub(super) fn finish_live(
        &mut self,
        begun: Begun,
        after: AfterSave,
    ) -> Result<Option<Ending>, Error> {
        let saved = self.save_live(begun);
        let ends = saved.is_ok() && after == AfterSave::End;
        let told = Event::Live(match saved {
            Ok(written) => LiveSave::Saved { written },
            Err(error) => LiveSave::Failed(chain(&error)),
        });
        if ends {
            told.write_to(&mut self.events)?;
            return Ok(Some(Ending::Exit(Exit::PowerOff)));
        }
        for vcpu in &self.vcpus {
            // The guest's watchdogs shall not take the pause for a hang; not every guest has asked for the
            // clock that this needs.
            let _ = vcpu.kvmclock_ctrl();
        }
        // It is told when the vCPUs run again.
        self.news.push(told);
        Ok(None)
    }

    fn save_live(&mut self, begun: Begun) -> Result<u64, SnapshotError> {
        let Begun { files, overlays, pagemap, past, copied } = begun;
        let (mut disks, mut written) = (Vec::with_capacity(overlays.len()), copied);
        for (index, (own, overlay)) in self.belongings.overlays.iter().zip(&overlays).enumerate() {
            let saved = match &past {
                Some(past) => snapshot::save_file(own, &past.overlays[index], overlay)?,
                None => copy_whole(own, overlay).map_err(SnapshotError::Write)?,
            };
            written += saved.written;
            disks.push(saved.pieces);
        }
        let belongings = std::mem::take(&mut self.belongings);
        let Belongings { beneath, pieces, .. } = &belongings;
        let saved = self.save(files, disks, |memory, file| match &past {
            Some(past) => snapshot::save_difference(memory, &pagemap, beneath, &past.memory, file),
            None => snapshot::save_memory(memory, &pagemap, pieces, file),
        });
        self.belongings = belongings;
        Ok(written + saved?)
    }

    /// Keeps for later what a machine that stands still was woken for; its end, if that is among it.
    pub(super) fn postpone(&mut self) -> Option<Ending> {
        for wake in self.wakes.try_iter() {
            match wake {
                Wake::Ended(ending) => return Some(ending),
                wake => self.postponed.push_back(wake),
            }
        }
        None
    }

    /// What it is woken for next.
    pub(super) fn next_wake(&mut self) -> Result<Wake, RecvError> {
        self.postponed.pop_front().map_or_else(|| self.wakes.recv(), Ok)
    }
}

/// Copies a disk's file as it is.
fn copy_whole(from: &File, to: &File) -> std::io::Result<Saved> {
    let written = sparse::copy(from, to)?;
    Ok(Saved { pieces: vec![layers::all(from.metadata()?.len())], written })
}
