//! What depends on the processor's architecture.

pub(crate) mod x86_64;
