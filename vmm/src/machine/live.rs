//! A machine that is saved while it lives, by orders: first what needs no pause is written, then the machine
//! stands still for the rest.

use std::fs::File;
use std::sync::mpsc::RecvError;

use super::{Machine, Pagemap};
use crate::config::{DiskBacking, MachineConfig, SnapshotFiles};
use crate::error::{Error, chain};
use crate::event::{Event, LiveSave};
use crate::exit::Exit;
use crate::order::{AfterSave, SaveFiles};
use crate::snapshot::SnapshotError;
use crate::sparse;
use crate::wake::{Ending, Wake};

/// What a machine is made of that is saved with it.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// What its disks have written, in their order.
    overlays: Vec<File>,
    /// The file that lies behind pieces of its memory, if it goes on where another machine was saved.
    base: Option<File>,
    pieces: Vec<(u64, u64)>,
    is_traced: bool,
}

/// What was begun.
#[derive(Debug)]
pub(super) struct Begun {
    files: SnapshotFiles,
    overlays: Vec<File>,
    pagemap: Pagemap,
    copied: u64,
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

    /// Its memory is what a file has at these pieces, and what is written over that.
    pub(super) fn lies_over(&mut self, memory: File, pieces: Vec<(u64, u64)>) {
        (self.base, self.pieces) = (Some(memory), pieces);
    }
}

/// What becomes of an order to go on with nothing.
pub(super) fn nothing_begun() -> Event {
    Event::Live(LiveSave::Failed("nothing was begun".to_owned()))
}

impl Machine {
    /// Writes what a file has behind the memory, which never changes.
    pub(super) fn begin_live(&mut self, files: SaveFiles) -> Event {
        let SaveFiles { machine: files, overlays, pagemap } = files;
        let Belongings { overlays: own, base, is_traced, .. } = &self.belongings;
        // A vCPU may wait for somebody to read a line, and would not stop.
        let refusal = is_traced.then_some("a machine whose kernel speaks cannot be saved");
        let unequal = (own.len() != overlays.len()).then_some("it has another number of disks");
        if let Some(refusal) = refusal.or(unequal) {
            return Event::Live(LiveSave::Failed(refusal.to_owned()));
        }
        let copied = base.as_ref().map_or(Ok(0), |base| sparse::copy(base, &files.memory));
        match copied.map_err(SnapshotError::Write) {
            Ok(copied) => {
                let pagemap = Pagemap::opened(pagemap);
                self.begun = Some(Begun { files, overlays, pagemap, copied });
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
        let Begun { files, overlays, pagemap, copied } = begun;
        let pieces = std::mem::take(&mut self.belongings.pieces);
        let written = self.save(files, &pagemap, &pieces);
        self.belongings.pieces = pieces;
        let mut written = copied + written?;
        for (own, overlay) in self.belongings.overlays.iter().zip(&overlays) {
            written += sparse::copy(own, overlay).map_err(SnapshotError::Write)?;
        }
        Ok(written)
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
