//! The bodies of the fuzz targets: configuration files, and what registries answer. Each is also a test
//! over its corpus.

mod answers;
#[cfg(test)]
#[path = "../../fuzz/corpus.rs"]
mod corpus;
mod credentials;
mod registries;

pub use answers::answers;
pub use credentials::credentials;
pub use registries::registries;

#[cfg(test)]
mod tests {
    use super::corpus;

    #[test]
    fn answers() {
        corpus::each("answers", super::answers);
    }

    #[test]
    fn credentials() {
        corpus::each("credentials", super::credentials);
    }

    #[test]
    fn registries() {
        corpus::each("registries", super::registries);
    }
}
