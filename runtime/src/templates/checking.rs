//! Whether templates are as they were made. A start only looks at one; this reads all that is in it.

use std::fs::File;
use std::io;
use std::path::Path;

use vmm::config::SnapshotFiles;
use vmm::error::chain;

use super::description::Description;
use super::{KERNEL, MEMORY, SCRATCH, STATE, Templates};
use crate::error::Error;

/// What a [`Templates::check`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many templates there are.
    pub templates: usize,
    /// Those that are not as they were made, by name, and why.
    pub damaged: Vec<(String, String)>,
}

impl Templates {
    /// Reads all templates and changes nothing. Others may use them meanwhile, and make more.
    ///
    /// # Errors
    /// When the folder cannot be read. What is damaged is no error.
    pub fn check(&self) -> Result<Checked, Error> {
        let mut checked = Checked::default();
        for template in self.list()? {
            let folder = self.folder.join(&template.key);
            let trouble = check(&folder, template.description.as_ref());
            // Somebody may have removed it meanwhile.
            if folder.exists() {
                checked.templates += 1;
                checked.damaged.extend(trouble.err().map(|reason| (template.key, reason)));
            }
        }
        Ok(checked)
    }
}

fn check(folder: &Path, description: Option<&Description>) -> Result<(), String> {
    let open = |name: &str| {
        let failed = |error: io::Error| format!("cannot open its {name}: {error}");
        File::open(folder.join(name)).map_err(failed)
    };
    let mut files = SnapshotFiles::new(open(STATE)?, open(MEMORY)?);
    vmm::check_saved(&mut files).map_err(|error| chain(&error))?;
    let known = description.and_then(|known| known.memory_sum);
    let known = known.ok_or("the checksum of its memory is lost")?;
    compare(&files.memory, known, "memory")?;
    let scratch = description.and_then(|known| known.scratch_sum);
    scratch.map_or(Ok(()), |known| compare(&open(SCRATCH)?, known, "writable disk"))?;
    let kernel = description.and_then(|known| known.kernel_sum);
    kernel.map_or(Ok(()), |known| compare(&open(KERNEL)?, known, "kernel"))
}

/// Reads all that is in a file; `name` is what it is called.
fn compare(file: &File, known: u32, name: &str) -> Result<(), String> {
    let sum = vmm::memory_sum(file).map_err(|error| format!("cannot read its {name}: {error}"))?;
    if sum == known { Ok(()) } else { Err(format!("its {name} has a wrong checksum")) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{publish, templates};
    use super::*;

    #[test]
    fn what_is_no_template_is_told_by_name() {
        let (_folder, templates) = templates();
        assert_eq!(templates.check().unwrap(), Checked::default());
        publish(&templates, "k");
        publish(&templates, "aside");
        templates.set_aside("aside");
        let reason = "the file is no saved machine".to_owned();
        let damaged = vec![("k".to_owned(), reason)];
        assert_eq!(templates.check().unwrap(), Checked { templates: 1, damaged });
    }
}
