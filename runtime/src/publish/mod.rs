//! Ports of the host that answer for a container: `door` takes them, `proxy` carries what comes to them
//! into the container. Knows no networks: it is told an address.

mod datagrams;
mod door;
mod pipes;
mod proxy;
mod relay;

pub use self::door::{DoorError, Published};
pub(crate) use self::door::{Entrance, open_doors};
pub(crate) use self::proxy::Proxy;
