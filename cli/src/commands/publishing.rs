//! The flags of `run` that say how a container is reached, and how it finds others.

use std::net::IpAddr;

use runtime::options::{Dns, Expose, Ports, Publish, SearchDomain};

/// How a container is reached, and how it finds others.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct PublishingArgs {
    /// Answer at a port of the host for one of the container, as 8080:80 or 127.0.0.1:53:53/udp
    #[arg(short, long, value_name = "[[IP:]PORT:]PORT[/PROTOCOL]")]
    publish: Vec<Publish>,
    /// Publish every port that the image or --expose names, each at a free port of the host
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Name a port of the container, for -P and whoever looks
    #[arg(long, value_name = "PORT[-PORT][/PROTOCOL]")]
    expose: Vec<Expose>,
    /// Ask this server for names, instead of the host's
    #[arg(long, value_name = "IP", value_parser = server)]
    dns: Vec<IpAddr>,
    /// Look for short names in this domain, instead of the host's; a dot is none
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<SearchDomain>,
    /// Set an option of name resolution, as ndots:2
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
}

impl PublishingArgs {
    /// What they mean.
    pub(crate) fn parts(self) -> (Ports, Dns) {
        let ports = Ports {
            published: self.publish.into_iter().flat_map(|Publish(ports)| ports).collect(),
            all: self.publish_all,
            exposed: self.expose.into_iter().flat_map(|Expose(ports)| ports).collect(),
        };
        let dns = Dns { servers: self.dns, search: self.dns_search, options: self.dns_option };
        (ports, dns)
    }
}

fn server(text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("{text} is not an ip address"))
}
