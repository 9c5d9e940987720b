//! Makes a snapshot of a container that runs.

use std::fs::File;
use std::time::SystemTime;

use images::{Image, Store};

use super::description::{Description, Needs, VERSION, pieces};
use super::lineage::template_of;
use super::{BLANK, SCRATCH, Snapshot, SnapshotName, Snapshots, Unfinished, share};
use crate::containers::files::file_error;
use crate::containers::{Containers, Found, Record};
use crate::control::connect;
pub use crate::control::{Afterwards, Taken};
use crate::error::Error;
use crate::host;
use crate::moment::Moment;
use crate::places::Places;
use crate::scratch::{Ground, OWN_BLANK};

/// Makes a snapshot of a container that runs, or stands still.
///
/// # Errors
/// When it does neither, the name is in use, or the disk is full; the container goes on unharmed then.
pub fn take(
    words: &str,
    name: &SnapshotName,
    afterwards: Afterwards,
    places: &Places,
) -> Result<Snapshot, Error> {
    let containers = Containers::of(places);
    let found = containers.find(words)?;
    drop(connect(&found)?);
    let unfinished = Snapshots::of(places).begin(name)?;
    // As long as it is held, the image is not removed; from then on nobody removes it that the snapshot uses.
    let _lock = image_of(&found, places)?.lock()?;
    let description = save(&unfinished, &containers, &found, afterwards, places)?;
    let snapshot = unfinished.publish(description)?;
    snapshot.note("create", places, &[]);
    Ok(snapshot)
}

fn image_of(found: &Found, places: &Places) -> Result<Image, Error> {
    let store = Store::open(&places.images()).map_err(images::Error::from)?;
    Ok(store.find(&found.record.image_id)?)
}

/// Saves a container into the files of a snapshot; what is known about it then.
pub(super) fn save(
    unfinished: &Unfinished,
    containers: &Containers,
    found: &Found,
    afterwards: Afterwards,
    places: &Places,
) -> Result<Description, Error> {
    let record = &found.record;
    let image = image_of(found, places)?;
    let disk = pieces(&image, places)?;
    let folder = unfinished.folder();
    let ground = Ground::as_copied(record, found.folder());
    if ground == Ground::Own {
        share(&found.folder().join(OWN_BLANK), &folder.join(BLANK))?;
    }
    unfinished.create_own()?;
    let parent = Snapshots::of(places).parent_of(record);
    let lower = match &parent {
        Some(parent) => unfinished.lie_over(parent),
        None => {
            let template = template_of(record, found.folder(), &image, places);
            template.map(|template| unfinished.lie_over_template(template)).unwrap_or_default()
        }
    };
    let Taken { pause, written } =
        crate::control::take_snapshot(containers, found, &folder, lower, afterwards)?;
    let beneath = unfinished.beneath()?;
    let scratch = folder.join(SCRATCH);
    // As that of a memory, its date tells whether anybody has written to it later.
    File::open(&scratch)
        .and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH))
        .map_err(file_error("write", &scratch))?;
    let id: [u8; 32] = host::random()?;
    Ok(Description {
        version: VERSION,
        id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
        name: unfinished.name().to_owned(),
        created: Moment::now(),
        container: Record { ground, ..record.clone() },
        hyperrun: env!("CARGO_PKG_VERSION").to_owned(),
        needs: Needs::here(),
        disk,
        pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
        written,
        parent: parent.filter(|_| beneath > 0).map(|parent| parent.name),
        beneath,
    })
}
