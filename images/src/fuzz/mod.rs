//! The bodies of the fuzz targets: what reads a stranger's bytes, and what must be true whatever
//! they are. Each is also a test over its corpus.

mod archive;
#[cfg(test)]
#[path = "../../../fuzz/corpus.rs"]
mod corpus;
mod disk;
mod documents;
mod erofs;
mod layer;
mod reference;
mod sandbox;
mod script;
mod tar;

pub use archive::archive;
pub use documents::documents;
pub use erofs::erofs;
pub use layer::layer;
pub use reference::reference;
pub use tar::tar;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn archive() {
        corpus::each("archive", super::archive);
    }

    #[test]
    fn documents() {
        corpus::each("documents", super::documents);
    }

    #[test]
    fn erofs() {
        corpus::each("erofs", |bytes| {
            super::erofs(bytes);
            super::erofs::fsck(bytes);
        });
    }

    #[test]
    fn layer() {
        corpus::each("layer", super::layer);
    }

    #[test]
    fn reference() {
        corpus::each("reference", super::reference);
    }

    #[test]
    fn tar() {
        corpus::each("tar", super::tar);
    }
}
