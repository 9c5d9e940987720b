//! Makes a template without a container: a machine boots until its agent is ready, and is saved.

use crate::containers::Containers;
use crate::error::Error;
use crate::kvm;
use crate::launch::{ask_the_host, patience};
use crate::limits::ScratchSize;
use crate::options::HostLimits;
use crate::places::Places;
use crate::plan::VmConfig;
use crate::preparation::boot;
use crate::scratch::Scratch;
use crate::supervisor::{MachineParts, save_machine};
use crate::templates::{Templates, Unfinished, Wanted};

/// Makes the template of this shape, unless it is there; gives its name. To be called while this
/// process has one thread.
///
/// # Errors
/// When no machine can be booted or saved, or the folder of templates not be written.
pub fn build_template(shape: VmConfig, places: &Places) -> Result<String, Error> {
    kvm::check()?;
    let templates = Templates::new(places.templates());
    let wanted = Wanted::of(shape)?;
    let failed =
        |source| Error::File { action: "make a template in", path: places.templates(), source };
    while templates.find(&wanted.key).is_none() {
        match templates.begin(&wanted).map_err(failed)? {
            Some(unfinished) => make(unfinished, shape, places)?.publish().map_err(failed)?,
            None => templates.await_other(&wanted.key).map_err(failed)?,
        }
    }
    Ok(wanted.key)
}

/// Boots a machine, saves it and ends it. Its folder lies among those of containers, so that the next
/// one that is made removes it when this process is killed.
fn make(unfinished: Unfinished, shape: VmConfig, places: &Places) -> Result<Unfinished, Error> {
    let made = parts(&unfinished, shape, places).and_then(|parts| {
        let home = Containers::of(places).register()?.machine()?;
        let saved = save_machine(parts, &home.folder, patience());
        home.remove();
        saved.map_err(|failure| ask_the_host(Error::Supervised(failure)))
    });
    match made {
        Ok(()) => Ok(unfinished),
        Err(error) => {
            unfinished.discard();
            Err(error)
        }
    }
}

/// A machine as every container's, but with nothing on its image's disk: the agent looks at that only
/// when it is told what to run.
fn parts(unfinished: &Unfinished, shape: VmConfig, places: &Places) -> Result<MachineParts, Error> {
    let failed = |source| Error::System { action: "open a template", source };
    Ok(MachineParts {
        shape,
        host: HostLimits::default(),
        container: None,
        start: boot()?,
        save: Some(unfinished.files().map_err(failed)?),
        image: Vec::new(),
        scratch: Scratch::fleeting(&places.scratch(), ScratchSize::DEFAULT)?,
        trace: false,
    })
}
