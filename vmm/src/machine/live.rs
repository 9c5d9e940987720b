//! A machine that is saved while it lives, by orders: first what needs no pause is written, in a thread of its own,
//! then the machine stands still for the rest.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use vm_memory::GuestMemoryMmap;

use super::Machine;
use crate::config::{DiskBacking, MachineConfig, SnapshotFiles};
use crate::error::{Error, chain};
use crate::event::{Event, LiveSave};
use crate::exit::Exit;
use crate::layers::{self, Layers, PAGE, Pieces};
use crate::memory;
use crate::order::{AfterSave, PageFiles, Parent, SaveFiles};
use crate::snapshot::{self, Ahead, Grain, Pagemap, Saved, SnapshotError, Survey, Watch};
use crate::sparse;
use crate::virtio::worker::STACK_BYTES;
use crate::wake::{Ending, Wake};

/// More pages than these are not compared while a machine stands still, if that can be avoided: 64 MiB. A huge page
/// counts as written as a whole.
const MOST_COMPARED: usize = 16 << 10;
/// Of more snapshots than these it is not known what a machine has written since.
const MOST_KNOWN: usize = 16;

/// What a machine is made of that is saved with it.
#[derive(Debug, Default)]
pub(super) struct Belongings {
    /// What its disks have written, in their order.
    overlays: Vec<File>,
    beneath: Arc<Beneath>,
    is_traced: bool,
    known: Option<Known>,
}

/// What lies behind pieces of a machine's memory, if it goes on where another one was saved.
#[derive(Debug, Default)]
struct Beneath {
    files: Layers,
    /// Those pieces, as addresses.
    pieces: Pieces,
}

/// Snapshots of a machine of which it is known what it has written since.
#[derive(Debug)]
struct Known {
    /// It began before any of them was complete.
    watch: Watch,
    /// Their memories.
    memories: Vec<Identity>,
}

/// What tells a file from all others, and from those that had its inode before.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    created: SystemTime,
}

/// What was begun.
#[derive(Debug)]
pub(crate) struct Begun {
    files: SnapshotFiles,
    overlays: Vec<File>,
    pagemap: Pagemap,
    memory: Base,
    /// It began before anything was written ahead.
    watch: Option<Watch>,
    /// What the disks were saved as before; without that they are written as a whole.
    disks: Option<Vec<Layers>>,
}

/// What of a memory is not written any more while the machine stands still.
#[derive(Debug)]
enum Base {
    /// What was saved before.
    Past(Layers),
    /// What was written ahead, with so many bytes of what lies beneath.
    Ahead { ahead: Ahead, copied: u64 },
    /// What was written ahead, so many bytes, and what that lies over.
    Difference { layers: Layers, written: u64 },
}

/// What was saved before, of which only what differs is to be written.
#[derive(Debug)]
struct Past {
    memory: Layers,
    /// None of a machine that was saved on its way to its life: what its disks have is written as a whole.
    disks: Option<Vec<Layers>>,
}

impl Identity {
    /// None where the file system does not know when a file was made.
    fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let created = metadata.created().ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino(), created })
    }
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
        let beneath = Beneath {
            files: memory::layers(bytes, files, pieces).map_err(SnapshotError::Read)?,
            pieces: layers::join(pieces.concat()),
        };
        self.beneath = Arc::new(beneath);
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
        if state.disks.is_empty() {
            return Some(Past { memory, disks: None });
        }
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
        Some(Past { memory, disks: Some(disks.map(disk).collect::<Option<_>>()?) })
    }

    /// What is written since a memory was saved as a file of this identity is known, by this watch or the one that
    /// there is.
    fn know_since(&mut self, memory: Option<Identity>, watch: Option<Watch>) {
        if let Some(watch) = watch {
            self.known = Some(Known { watch, memories: Vec::new() });
        }
        if let Some(Known { memories, .. }) = &mut self.known {
            memories.extend(memory);
            if memories.len() > MOST_KNOWN {
                memories.remove(0);
            }
        }
    }

    /// What tells which pages were written since a memory was saved, if anything does.
    fn watch_since(&self, past: &Layers) -> Option<&Watch> {
        let known = self.known.as_ref()?;
        let memory = Identity::of(past.files().next()?)?;
        known.memories.contains(&memory).then_some(&known.watch)
    }
}

impl Beneath {
    /// Writes a memory that lies over this to an empty file, while its guest runs: what differs from what was saved
    /// before, if there is that.
    fn write_ahead(
        &self,
        memory: &GuestMemoryMmap,
        pagemap: &Pagemap,
        past: Option<(&Layers, Grain)>,
        file: &File,
    ) -> Result<Base, SnapshotError> {
        let survey = Survey::of(memory, pagemap, None).map_err(SnapshotError::Read)?;
        let Some((past, grain)) = past else {
            let copied = self.files.copy_to(file).map_err(SnapshotError::Write)?;
            let ahead = snapshot::write_ahead(memory, survey, &self.pieces, file)?;
            return Ok(Base::Ahead { ahead, copied });
        };
        let places = (&self.files, past);
        let saved = snapshot::save_difference(memory, &survey, places, file, grain)?;
        let files = std::iter::once(file).chain(past.files()).map(File::try_clone);
        let layers = files.collect::<Result<_, _>>().and_then(|files| {
            memory::layers(snapshot::memory_length(memory), files, &saved.pieces)
        });
        let layers = layers.map_err(SnapshotError::Read)?;
        Ok(Base::Difference { layers, written: saved.written })
    }
}

fn failed(reason: &str) -> Event {
    Event::Live(LiveSave::Failed(reason.to_owned()))
}

/// What becomes of an order to go on with nothing.
pub(super) fn nothing_begun() -> Event {
    failed("nothing was begun")
}

impl Machine {
    /// Has a thread write the memory ahead, but where little is to be compared with what was saved before.
    pub(super) fn begin_live(&mut self, files: SaveFiles) -> Option<Event> {
        let SaveFiles { machine: files, overlays, parent, pages } = files;
        let PageFiles { pagemap, clear_refs } = pages;
        let Belongings { overlays: own, is_traced, .. } = &self.belongings;
        // A vCPU may wait for somebody to read a line, and would not stop.
        let refusal = is_traced.then_some("a machine whose kernel speaks cannot be saved");
        let unequal = (own.len() != overlays.len()).then_some("it has another number of disks");
        if let Some(refusal) = refusal.or(unequal) {
            return Some(failed(refusal));
        }
        let pagemap = Pagemap::opened(pagemap);
        let past = parent.and_then(|parent| self.belongings.past(self.memory_mib, parent));
        let (past, disks) = match past {
            Some(Past { memory, disks: Some(disks) }) if self.has_little(&memory, &pagemap) => {
                let (memory, disks) = (Base::Past(memory), Some(disks));
                let begun = Begun { files, overlays, pagemap, memory, watch: None, disks };
                return Some(self.has_begun(Ok(Box::new(begun))));
            }
            Some(Past { memory, disks }) => (Some(memory), disks),
            None => (None, None),
        };
        // Each piece is mapped by itself, and over what is no snapshot of this machine they are many.
        let grain = if disks.is_some() { Grain::Fine } else { Grain::Coarse };
        // What is known begins anew.
        self.belongings.known = None;
        let (memory, beneath) = (self.vm.memory().clone(), Arc::clone(&self.belongings.beneath));
        let wakes = self.wake_sender.clone();
        let write = move || {
            // Where the host cannot tell what is written from now on, all is compared later.
            let watch = Watch::begin(&clear_refs).ok();
            let past = past.as_ref().map(|past| (past, grain));
            let begun = match beneath.write_ahead(&memory, &pagemap, past, &files.memory) {
                Ok(memory) => {
                    Ok(Box::new(Begun { files, overlays, pagemap, memory, watch, disks }))
                }
                Err(error) => Err(chain(&error)),
            };
            // A machine that is at its end does not listen.
            let _ = wakes.send(Wake::Begun(begun));
        };
        let thread = thread::Builder::new().name("ahead".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(write).err().map(|error| failed(&error.to_string()))
    }

    /// Whether so little is to be compared with this that the machine can stand still for it.
    fn has_little(&self, past: &Layers, pagemap: &Pagemap) -> bool {
        let watch = self.belongings.watch_since(past);
        let survey = Survey::of(self.vm.memory(), pagemap, watch);
        survey.is_ok_and(|survey| survey.suspects() <= MOST_COMPARED)
    }

    /// What to tell of what was begun.
    pub(super) fn has_begun(&mut self, outcome: Result<Box<Begun>, String>) -> Event {
        match outcome {
            Ok(begun) => {
                self.begun = Some(begun);
                Event::Live(LiveSave::Begun)
            }
            Err(reason) => failed(&reason),
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
        let Begun { files, overlays, pagemap, memory: base, watch, disks: past } = begun;
        let layers_beneath = match &base {
            Base::Past(_) | Base::Ahead { .. } => 0,
            Base::Difference { layers, .. } => layers.count() - 1,
        };
        let (mut disks, mut written) = (Vec::with_capacity(overlays.len()), 0);
        for (index, (own, overlay)) in self.belongings.overlays.iter().zip(&overlays).enumerate() {
            let saved = match &past {
                Some(past) => snapshot::save_file(own, &past[index], overlay)?,
                None => copy_whole(own, overlay, layers_beneath)?,
            };
            written += saved.written;
            disks.push(saved.pieces);
        }
        let since = match &base {
            Base::Past(past) => self.belongings.watch_since(past),
            Base::Ahead { .. } | Base::Difference { .. } => watch.as_ref(),
        };
        let survey = Survey::of(self.vm.memory(), &pagemap, since).map_err(SnapshotError::Read)?;
        let (beneath, identity) =
            (Arc::clone(&self.belongings.beneath), Identity::of(&files.memory));
        let saved = self.save(files, disks, |memory, file| match base {
            Base::Past(past) => {
                let places = (&beneath.files, &past);
                snapshot::save_difference(memory, &survey, places, file, Grain::Fine)
            }
            Base::Ahead { ahead, copied } => {
                written += copied;
                snapshot::catch_up(memory, &survey, ahead, file)
            }
            Base::Difference { layers, written: ahead } => {
                written += ahead;
                snapshot::save_difference_again(memory, &survey, &beneath.files, &layers, file)
            }
        })?;
        self.belongings.know_since(identity, watch);
        Ok(written + saved)
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
}

/// Copies a disk's file as it is; of so many files that lie beneath nothing counts.
fn copy_whole(from: &File, to: &File, beneath: usize) -> Result<Saved, SnapshotError> {
    let written = sparse::copy(from, to).map_err(SnapshotError::Write)?;
    let length = from.metadata().map_err(SnapshotError::Read)?.len();
    let mut pieces = vec![layers::all(length)];
    pieces.resize(1 + beneath, Pieces::new());
    Ok(Saved { pieces, written })
}
