//! Image references: what is one stays the same one, however it is written.

use crate::reference::Reference;

/// Parses `bytes`, if they are text, as an image reference.
///
/// # Panics
/// When a reference, written whole or as people write it, means another one.
pub fn reference(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    let Ok(reference) = text.parse::<Reference>() else { return };
    for written in [reference.to_string(), reference.familiar()] {
        assert_eq!(written.parse().as_ref(), Ok(&reference), "{written}");
    }
    assert!(reference.tag().is_some() || reference.digest().is_some());
    let components = reference.repository().split('/');
    assert!(components.into_iter().all(|part| !matches!(part, "" | "." | "..")), "{reference}");
}
