//! Reads a profile (moby's `profiles/seccomp`): what happens to which call, on this architecture
//! and kernel, and with these capabilities.

use std::collections::BTreeMap;

use protocol::Capabilities;
use serde::Deserialize;

use super::{SeccompError, syscalls};
use crate::capabilities::Capability;

/// Go's name of the guest's architecture.
const ARCHITECTURE: &str = "amd64";
/// The guest's kernel.
const KERNEL: (u32, u32) = (6, 12);
/// `EPERM`: what a call that is forbidden returns when the profile does not say.
const EPERM: u16 = 1;

/// What happens to every call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// To those that have no rule, or none that fits.
    pub(super) default: Action,
    /// The rules of each call by its number. The first that fits counts.
    pub(super) calls: BTreeMap<u32, Vec<Rule>>,
}

/// What happens to a call with certain arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    /// All of which hold; none always hold.
    pub(super) conditions: Vec<Condition>,
    /// What happens then.
    pub(super) action: Action,
}

/// A value that a filter can return (linux/seccomp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action(pub(super) u32);

/// An argument compared with a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub(super) argument: u32,
    /// How it is compared.
    pub(super) comparison: Comparison,
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal(u64),
    NotEqual(u64),
    Less(u64),
    LessOrEqual(u64),
    Greater(u64),
    GreaterOrEqual(u64),
    /// The bits of the first number are those of the second.
    Masked(u64, u64),
}

impl Action {
    pub(super) const ALLOW: Self = Self(0x7fff_0000);
    pub(super) const KILL_PROCESS: Self = Self(0x8000_0000);

    /// The call returns this error.
    pub(super) fn errno(number: u16) -> Self {
        Self(0x0005_0000 | u32::from(number))
    }

    fn parse(name: &str, number: Option<u16>) -> Result<Self, SeccompError> {
        Ok(match name {
            "SCMP_ACT_ALLOW" => Self::ALLOW,
            "SCMP_ACT_ERRNO" => Self::errno(number.unwrap_or(EPERM)),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self(0),
            "SCMP_ACT_KILL_PROCESS" => Self::KILL_PROCESS,
            "SCMP_ACT_TRAP" => Self(0x0003_0000),
            "SCMP_ACT_TRACE" => Self(0x7ff0_0000 | u32::from(number.unwrap_or(EPERM))),
            "SCMP_ACT_LOG" => Self(0x7ffc_0000),
            _ => return Err(SeccompError::Action(name.to_owned())),
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Vec<String>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Reads a profile. Calls that this architecture does not have are left out, as runc does.
pub(super) fn read(text: &str, capabilities: Capabilities) -> Result<Rules, SeccompError> {
    let json = |error: serde_json::Error| SeccompError::Json(error.to_string());
    let document: Document = serde_json::from_str(text).map_err(json)?;
    let default = Action::parse(&document.default_action, document.default_errno_ret)?;
    let mut calls: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for entry in &document.syscalls {
        let action = Action::parse(&entry.action, entry.errno_ret)?;
        let rules = rules(entry.args.as_deref().unwrap_or_default(), action)?;
        if !applies(entry, capabilities) || action == default {
            continue;
        }
        let names = entry.names.iter().chain([&entry.name].into_iter().filter(|n| !n.is_empty()));
        for number in names.filter_map(|name| syscalls::number(name)) {
            calls.entry(number).or_default().extend(rules.iter().cloned());
        }
    }
    // A rule without conditions is the last word on a call, wherever it stands.
    for rules in calls.values_mut() {
        rules.sort_by_key(|rule| rule.conditions.is_empty());
    }
    Ok(Rules { default, calls })
}

/// Whether an entry is for this architecture, kernel and set of capabilities.
fn applies(entry: &Entry, capabilities: Capabilities) -> bool {
    let has = |name: &String| match name.parse() {
        Ok(Capability::Number(number)) => capabilities.bits >> number & 1 == 1,
        Ok(Capability::All) | Err(_) => false,
    };
    let here = |name: &String| name == ARCHITECTURE;
    let kernel = |filter: &Filter| filter.min_kernel.as_deref().and_then(version);
    let Entry { includes, excludes, .. } = entry;
    let excluded = excludes.arches.iter().any(here)
        || excludes.caps.iter().any(has)
        || kernel(excludes).is_some_and(|least| KERNEL >= least);
    let included = (includes.arches.is_empty() || includes.arches.iter().any(here))
        && includes.caps.iter().all(has)
        && kernel(includes).is_none_or(|least| KERNEL >= least);
    included && !excluded
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The rules of one entry. Conditions on one argument are alternatives when there are several, as
/// runc has it; otherwise all must hold.
fn rules(arguments: &[Argument], action: Action) -> Result<Vec<Rule>, SeccompError> {
    let conditions = arguments.iter().map(condition).collect::<Result<Vec<_>, _>>()?;
    let several = |condition: &Condition| {
        conditions.iter().filter(|other| other.argument == condition.argument).count() > 1
    };
    if conditions.iter().any(several) {
        let alone = |condition| Rule { conditions: vec![condition], action };
        return Ok(conditions.into_iter().map(alone).collect());
    }
    Ok(vec![Rule { conditions, action }])
}

fn condition(argument: &Argument) -> Result<Condition, SeccompError> {
    let Argument { index, value, value_two, op } = argument;
    if *index > 5 {
        return Err(SeccompError::Argument(*index));
    }
    let comparison = match op.as_str() {
        "SCMP_CMP_EQ" => Comparison::Equal(*value),
        "SCMP_CMP_NE" => Comparison::NotEqual(*value),
        "SCMP_CMP_LT" => Comparison::Less(*value),
        "SCMP_CMP_LE" => Comparison::LessOrEqual(*value),
        "SCMP_CMP_GT" => Comparison::Greater(*value),
        "SCMP_CMP_GE" => Comparison::GreaterOrEqual(*value),
        "SCMP_CMP_MASKED_EQ" => Comparison::Masked(*value, *value_two),
        _ => return Err(SeccompError::Operator(op.clone())),
    };
    Ok(Condition { argument: *index, comparison })
}
