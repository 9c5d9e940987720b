//! What becomes of templates that nobody needs: listed, removed by name, pruned, and thinned out when
//! a new one comes.

use std::cmp::Reverse;
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use images::Digest;

use super::description::Description;
use super::{BROKEN, LOCK, NEW, Templates, try_lock};
use crate::error::Error;

/// How many templates are kept of those that serve all images, and as many of those of one image; the one
/// used longest ago goes first.
pub(super) const MOST: usize = 16;
/// What another program or kernel made, and what went wrong, is kept for so long after its last use.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A template as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name: a hash of what it depends on.
    pub key: String,
    /// The space it takes, in bytes.
    pub bytes: u64,
    /// When it was made or last used.
    pub used: SystemTime,
    /// What else is known; none for one whose description is lost.
    pub description: Option<Description>,
}

impl Listed {
    /// The image that it is of; none for one that serves all.
    #[must_use]
    pub fn image(&self) -> Option<Digest> {
        self.description.as_ref()?.image
    }
}

/// Why nothing is removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// No name begins like this.
    #[error("no such template: {name}")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Several names do.
    #[error("{name} is the beginning of {count} templates' names")]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// How many there are.
        count: usize,
    },
}

/// What a [`Templates::prune`] has removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The templates.
    pub keys: Vec<String>,
    /// The space that they took, with all that was left over, in bytes.
    pub reclaimed: u64,
}

impl Templates {
    /// All templates, the one used last first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = Vec::new();
        for (entry, metadata) in self.entries()? {
            let key = entry.file_name().to_string_lossy().into_owned();
            if metadata.is_dir() && !key.contains('.') {
                let folder = entry.path();
                let (bytes, used) = (bytes_below(&folder), last_use(&metadata));
                listed.push(Listed { key, bytes, used, description: Description::read(&folder) });
            }
        }
        listed.sort_by_key(|template| Reverse(template.used));
        Ok(listed)
    }

    /// Removes the template with this name, or the only one whose name begins like this; machines that
    /// came from it go on. Gives its name.
    ///
    /// # Errors
    /// When there is none, or more than one, or it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<String, Error> {
        let mut found: Vec<_> = self.list()?.into_iter().map(|template| template.key).collect();
        found.retain(|key| key.starts_with(name) && !name.is_empty());
        if let Some(exact) = found.iter().position(|key| key == name) {
            found = vec![found.swap_remove(exact)];
        }
        let name = name.to_owned();
        match (found.pop(), found.len()) {
            (None, _) => Err(TemplateError::Unknown { name }.into()),
            (Some(key), 0) => self.take_away(&key).map(|_| key),
            (Some(_), others) => Err(TemplateError::Ambiguous { name, count: others + 1 }.into()),
        }
    }

    /// Removes every template, the broken ones and what the killed have left; not what is just being
    /// made.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn prune(&self) -> Result<Pruned, Error> {
        let mut pruned = Pruned::default();
        for template in self.list()? {
            pruned.reclaimed += self.take_away(&template.key)?;
            pruned.keys.push(template.key);
        }
        pruned.reclaimed += self.clear_leftovers(Duration::ZERO)?;
        Ok(pruned)
    }

    /// Removes those of an image that is gone.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub fn forget_image(&self, id: Digest) -> Result<(), Error> {
        let mut gone = self.list()?.into_iter().filter(|template| template.image() == Some(id));
        gone.try_for_each(|template| self.take_away(&template.key).map(drop))
    }

    /// Makes room for a template of `basis` that was just made: removes those that were not used for
    /// longest until few enough are left, and what is of no use to this program any more.
    pub(super) fn thin_out(&self, basis: &str) -> Result<(), Error> {
        let (of_images, others): (Vec<_>, Vec<_>) =
            self.list()?.into_iter().partition(|template| template.image().is_some());
        let numbered = of_images.into_iter().enumerate().chain(others.into_iter().enumerate());
        for (place, template) in numbered {
            let ours = template.description.is_some_and(|known| known.basis == basis);
            if place >= MOST || (!ours && is_older(template.used, STALE)) {
                self.take_away(&template.key)?;
            }
        }
        self.clear_leftovers(STALE).map(drop)
    }

    /// Removes a template as a whole: nobody finds the half of it. Gives the bytes it took.
    fn take_away(&self, key: &str) -> Result<u64, Error> {
        let path = self.folder.join(key);
        let aside = self.folder.join(format!("{key}{BROKEN}"));
        let bytes = bytes_below(&path);
        let removed = gone(fs::remove_dir_all(&aside))
            .and_then(|()| gone(fs::rename(&path, &aside)))
            .and_then(|()| gone(fs::remove_dir_all(&aside)));
        removed.map_err(|source| Error::File { action: "remove", path, source })?;
        Ok(bytes)
    }

    /// Removes what is no template and older than `age`, unless somebody is at it. Gives the bytes.
    fn clear_leftovers(&self, age: Duration) -> Result<u64, Error> {
        let mut reclaimed = 0;
        for (entry, metadata) in self.entries()? {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            let failed = |source| Error::File { action: "remove", path: path.clone(), source };
            if !is_older(last_use(&metadata), age) {
                continue;
            }
            if name.ends_with(BROKEN) {
                reclaimed += bytes_below(&path);
                gone(fs::remove_dir_all(&path)).map_err(failed)?;
            } else if let Some(key) = name.strip_suffix(LOCK).or_else(|| name.strip_suffix(NEW)) {
                // Whoever holds the lock is making the template, and whoever waits for it sees that
                // the file is another one.
                let lock = self.folder.join(format!("{key}{LOCK}"));
                let Some(_locked) = try_lock(&lock).map_err(failed)? else { continue };
                let new = self.folder.join(format!("{key}{NEW}"));
                reclaimed += bytes_below(&new);
                gone(fs::remove_dir_all(&new)).map_err(failed)?;
                gone(fs::remove_file(&lock)).map_err(failed)?;
            }
        }
        Ok(reclaimed)
    }

    fn entries(&self) -> Result<Vec<(DirEntry, Metadata)>, Error> {
        let failed = |source| Error::File { action: "read", path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            // It may have gone meanwhile.
            found.extend(entry.metadata().ok().map(|metadata| (entry, metadata)));
        }
        Ok(found)
    }
}

fn last_use(metadata: &Metadata) -> SystemTime {
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// What comes from the future, as after a step of the clock, has no age.
fn is_older(moment: SystemTime, age: Duration) -> bool {
    age.is_zero() || SystemTime::now().duration_since(moment).unwrap_or_default() > age
}

/// The blocks of the files in a folder, in bytes.
fn bytes_below(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let blocks = files.filter_map(|file| file.metadata().ok()).map(|file| file.blocks());
    blocks.sum::<u64>() * 512
}

/// What somebody else has removed is removed.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Wanted;
    use super::super::tests::{publish, templates, wanted};
    use super::*;
    use crate::templates::description::Sums;
    use std::fs::File;

    fn age(templates: &Templates, name: &str, days: u64) {
        let moment = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        File::open(templates.folder.join(name)).unwrap().set_modified(moment).unwrap();
    }

    fn names(templates: &Templates) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(&templates.folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(LOCK))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go() {
        let (_folder, templates) = templates();
        for number in 0..MOST + 3 {
            let key = format!("k{number:02}");
            publish(&templates, &key);
        }
        assert_eq!(templates.list().unwrap().len(), MOST);
    }

    #[test]
    fn those_of_images_are_counted_apart_and_go_with_their_image() {
        let (_folder, templates) = templates();
        let images = [1, 2].map(|byte| Digest::of(&[byte]));
        publish(&templates, "all");
        for number in 0..MOST + 1 {
            let image = Some(images[number % 2]);
            let wanted = Wanted { image, ..wanted(&format!("i{number:02}")) };
            let unfinished = templates.begin(&wanted).unwrap().unwrap();
            assert!(unfinished.scratch().unwrap().is_some());
            unfinished.publish().unwrap();
            assert!(templates.find(&wanted).is_some());
        }
        assert_eq!(templates.list().unwrap().len(), MOST + 1);
        templates.forget_image(images[0]).unwrap();
        let left = templates.list().unwrap();
        assert!(left.iter().all(|template| template.image() != Some(images[0])));
        assert!(left.iter().any(|template| template.image() == Some(images[1])));
        assert!(left.iter().any(|template| template.key == "all"));
    }

    #[test]
    fn a_name_or_its_beginning_is_enough() {
        let (_folder, templates) = templates();
        ["abc", "abd", "ab", "x"].iter().for_each(|key| publish(&templates, key));
        let refused = |name: &str| match templates.remove(name) {
            Err(Error::Template(error)) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("y"), "no such template: y");
        assert_eq!(refused(""), "no such template: ");
        assert_eq!(refused("a"), "a is the beginning of 3 templates' names");
        assert_eq!(refused("../abc"), "no such template: ../abc");
        assert_eq!(templates.remove("ab").unwrap(), "ab");
        assert_eq!(templates.remove("abc").unwrap(), "abc");
        assert_eq!(templates.remove("a").unwrap(), "abd");
        assert_eq!(names(&templates), ["x"]);
    }

    #[test]
    fn a_prune_takes_all_but_what_is_being_made() {
        let (_folder, templates) = templates();
        assert_eq!(templates.prune().unwrap(), Pruned::default());
        ["one", "two", "bad"].iter().for_each(|key| publish(&templates, key));
        templates.set_aside("bad");
        drop(templates.begin(&wanted("killed")).unwrap());
        let unfinished = templates.begin(&wanted("busy")).unwrap().unwrap();
        fs::write(templates.folder.join("one/memory"), [1; 100_000]).unwrap();
        let mut pruned = templates.prune().unwrap();
        pruned.keys.sort();
        assert_eq!(pruned.keys, ["one", "two"]);
        assert!(pruned.reclaimed >= 100_000);
        assert_eq!(names(&templates), ["busy.new"]);
        assert!(templates.folder.join("busy.lock").exists());
        unfinished.publish().unwrap();
        assert!(templates.find(&wanted("busy")).is_some());
    }

    #[test]
    fn a_new_template_drives_out_what_is_of_no_use() {
        let (_folder, templates) = templates();
        for key in ["old", "fresh", "ours", "bad"] {
            publish(&templates, key);
        }
        for key in ["old", "fresh"] {
            let mut other = wanted(key);
            other.basis = "another".to_owned();
            Description::new(&other, Sums { memory: 0, scratch: None, kernel: None })
                .write(&templates.folder.join(key))
                .unwrap();
        }
        templates.set_aside("bad");
        drop(templates.begin(&wanted("killed")).unwrap());
        for name in ["old", "ours", "bad.broken", "killed.lock"] {
            age(&templates, name, 8);
        }
        publish(&templates, "new");
        assert_eq!(names(&templates), ["fresh", "new", "ours"]);
    }
}
