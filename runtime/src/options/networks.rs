//! Reads `--network` and what goes with it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

use crate::network::{DEFAULT_NETWORK, Mac, NO_NETWORK, USER_NETWORK};

/// The networks of a container; without any it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkOptions {
    /// In the order of the container's interfaces.
    pub networks: Vec<NetworkOption>,
}

/// One `--network`: `NAME`, or `name=NAME,alias=A,ip=ADDRESS,ip6=ADDRESS,mac-address=MAC`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkOption {
    /// A network's name or id, `user` or `none`.
    pub name: String,
    /// `alias`, or `--network-alias`.
    pub aliases: Vec<String>,
    /// `ip`, or `--ip`.
    pub address: Option<Ipv4Addr>,
    /// `ip6`, or `--ip6`.
    pub address6: Option<Ipv6Addr>,
    /// `mac-address`, or `--mac-address`.
    pub mac: Option<Mac>,
}

/// Why text is no `--network`, or all of them make no sense together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NetworkOptionError {
    /// A field that there is not, or one with a value that it cannot have.
    #[error("invalid field {0}")]
    Field(String),
    /// No name.
    #[error("network name cannot be empty")]
    NoName,
    /// The network of the host, or of another container.
    #[error(
        "{0} is another's network: a container is a machine of its own, with a kernel that neither the \
         host nor another container shares"
    )]
    Anothers(String),
    /// `none` beside others.
    #[error(
        "container cannot be connected to multiple networks with one of the networks in private \
         (none) mode"
    )]
    NoneAndOthers,
    /// Addresses or names for a container that has no network.
    #[error("{0} needs a network")]
    WithoutNetwork(&'static str),
    /// The same was said of a network and of the container.
    #[error("conflicting options: cannot specify both --{0} and per-network {0}")]
    Twice(&'static str),
}

impl FromStr for NetworkOption {
    type Err = NetworkOptionError;

    fn from_str(text: &str) -> Result<Self, NetworkOptionError> {
        let mut option = Self::default();
        if text.contains('=') {
            text.split(',').try_for_each(|field| option.read(field))?;
        } else {
            text.clone_into(&mut option.name);
        }
        match option.name.as_str() {
            "" => Err(NetworkOptionError::NoName),
            "default" => Ok(Self { name: DEFAULT_NETWORK.to_owned(), ..option }),
            "passt" => Ok(Self { name: USER_NETWORK.to_owned(), ..option }),
            name if name == "host" || name.starts_with("container:") => {
                Err(NetworkOptionError::Anothers(option.name))
            }
            _ => Ok(option),
        }
    }
}

impl NetworkOption {
    fn read(&mut self, field: &str) -> Result<(), NetworkOptionError> {
        let wrong = || NetworkOptionError::Field(field.to_owned());
        let (key, value) = field.split_once('=').ok_or_else(wrong)?;
        match key.trim().to_ascii_lowercase().as_str() {
            "name" => value.clone_into(&mut self.name),
            "alias" => self.aliases.push(value.to_owned()),
            "ip" => self.address = Some(value.parse().map_err(|_| wrong())?),
            "ip6" => self.address6 = Some(value.parse().map_err(|_| wrong())?),
            "mac-address" => self.mac = Some(value.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }
        Ok(())
    }
}

impl NetworkOptions {
    /// The networks that were asked for, or the usual one; `first` is what was asked of the first of them
    /// by flags of their own.
    ///
    /// # Errors
    /// When they make no sense together.
    pub fn decide(
        mut networks: Vec<NetworkOption>,
        first: NetworkOption,
        usual: &str,
    ) -> Result<Self, NetworkOptionError> {
        if networks.is_empty() {
            networks.push(NetworkOption { name: usual.to_owned(), ..NetworkOption::default() });
        }
        let is_alone =
            |option: &&NetworkOption| [NO_NETWORK, USER_NETWORK].contains(&&*option.name);
        let none = networks.iter().filter(is_alone).count();
        if none > 0 && networks.len() > 1 {
            return Err(NetworkOptionError::NoneAndOthers);
        }
        let only = &mut networks[0];
        only.add(first)?;
        match none {
            0 => Ok(Self { networks }),
            _ => match only.flag() {
                Some(flag) => Err(NetworkOptionError::WithoutNetwork(flag)),
                None if only.name == USER_NETWORK => Ok(Self { networks }),
                None => Ok(Self::default()),
            },
        }
    }

    /// Docker's `NetworkMode`: the first network.
    #[must_use]
    pub fn mode(&self) -> &str {
        self.networks.first().map_or(NO_NETWORK, |option| option.name.as_str())
    }
}

impl NetworkOption {
    /// Says the same of a network as flags of their own have said.
    fn add(&mut self, flags: Self) -> Result<(), NetworkOptionError> {
        fn one<T>(
            field: &mut Option<T>,
            flag: Option<T>,
            name: &'static str,
        ) -> Result<(), NetworkOptionError> {
            match (field.is_some(), flag) {
                (true, Some(_)) => Err(NetworkOptionError::Twice(name)),
                (false, flag) => {
                    *field = flag;
                    Ok(())
                }
                (true, None) => Ok(()),
            }
        }
        one(&mut self.address, flags.address, "ip")?;
        one(&mut self.address6, flags.address6, "ip6")?;
        one(&mut self.mac, flags.mac, "mac-address")?;
        self.aliases.extend(flags.aliases);
        Ok(())
    }

    /// The flag for something that it asks for.
    fn flag(&self) -> Option<&'static str> {
        let flags = [
            ("--ip", self.address.is_some()),
            ("--ip6", self.address6.is_some()),
            ("--mac-address", self.mac.is_some()),
            ("--network-alias", !self.aliases.is_empty()),
        ];
        flags.iter().find(|(_, is_asked)| *is_asked).map(|(flag, _)| *flag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_a_short_and_a_long_form() {
        let option: NetworkOption = "web".parse().unwrap();
        assert_eq!(option, NetworkOption { name: "web".into(), ..NetworkOption::default() });
        let long = "name=web,alias=a,alias=b,ip=192.0.2.7,ip6=2001:db8::7,mac-address=02:0:0:0:0:1";
        let option: NetworkOption = long.parse().unwrap();
        assert_eq!((option.name.as_str(), option.aliases.len()), ("web", 2));
        assert_eq!(option.address, Some([192, 0, 2, 7].into()));
        assert!(option.address6.is_some() && option.mac.is_some());
        assert_eq!("default".parse::<NetworkOption>().unwrap().name, "bridge");
        for (text, wanted) in [
            ("", "network name cannot be empty"),
            ("alias=x", "network name cannot be empty"),
            ("name=web,ip=x", "invalid field ip=x"),
            ("name=web,x", "invalid field x"),
            ("name=web,mtu=1", "invalid field mtu=1"),
            ("host", "host is another's network"),
            ("container:web", "container:web is another's network"),
        ] {
            let error = text.parse::<NetworkOption>().unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn flags_are_of_the_first_network() {
        let named = |name: &str| NetworkOption { name: name.into(), ..NetworkOption::default() };
        let decide = |names: &[&str], first| {
            let networks = names.iter().map(|name| name.parse().unwrap()).collect();
            NetworkOptions::decide(networks, first, "bridge")
        };
        let nothing = NetworkOption::default;
        assert_eq!(decide(&[], nothing()).unwrap().networks, [named("bridge")]);
        assert_eq!(decide(&["none"], nothing()).unwrap(), NetworkOptions::default());
        assert_eq!(NetworkOptions::default().mode(), "none");
        for name in ["user", "passt"] {
            assert_eq!(decide(&[name], nothing()).unwrap().mode(), "user");
        }
        let ip = NetworkOption { address: Some([192, 0, 2, 7].into()), ..nothing() };
        let both = decide(&["web", "back"], ip.clone()).unwrap();
        assert_eq!(both.networks[0].address, ip.address);
        assert_eq!((both.networks[1].clone(), both.mode()), (named("back"), "web"));
        for (names, flags, wanted) in [
            (&["none", "web"][..], nothing(), "container cannot be connected to multiple networks"),
            (&["none"], ip.clone(), "--ip needs a network"),
            (&["user"], ip.clone(), "--ip needs a network"),
            (&["web", "user"], nothing(), "container cannot be connected to multiple networks"),
            (&["name=web,ip=192.0.2.8"], ip, "cannot specify both --ip and per-network ip"),
        ] {
            let error = decide(names, flags).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
