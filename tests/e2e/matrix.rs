//! The same table of commands through hyperrun and through podman, which is the oracle: what they print,
//! whose words stand on standard error, and their exit statuses. Where we differ, the table says why.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(clippy::print_stdout, reason = "a failed test shows its seed and what it has compared")]

mod commands;
mod engine;
mod inside;
mod shown;

use std::sync::Mutex;

use hyperrun_tests::{Sample, is_full};

use engine::{Engine, Told};

/// Rows that are always tried, of all that there are.
const SAMPLE: usize = 15;

/// One line of the table.
#[derive(Clone, Copy)]
struct Row {
    what: &'static str,
    /// In a shell to which `box` is hyperrun or podman, `$N` a name of the group's own and `$F` an empty
    /// folder; in a group [inside](Kind::Inside) a shell in the container; in one that is
    /// [shown](Kind::Shown) a template.
    script: &'static str,
    /// Why we differ from podman, where we do.
    differs: Option<&'static str>,
}

const fn same(what: &'static str, script: &'static str) -> Row {
    Row { what, script, differs: None }
}

const fn differs(what: &'static str, script: &'static str, why: &'static str) -> Row {
    Row { what, script, differs: Some(why) }
}

/// Rows that are tried together, since a container takes podman seconds to start.
#[derive(Clone, Copy)]
struct Group {
    /// Also what its containers are called.
    name: &'static str,
    kind: Kind,
    rows: &'static [Row],
}

#[derive(Clone, Copy)]
enum Kind {
    /// In one container, whose flags and image these are.
    Inside(&'static str),
    /// By one `inspect` of the container `$N`, which this script has made.
    Shown(&'static str),
    /// Each by itself, after this script.
    After(&'static str),
}

/// A group of the rows that were chosen.
struct Chosen {
    name: &'static str,
    kind: Kind,
    rows: Vec<Row>,
}

/// As many rows as the sample has, or all with `HYPERRUN_TEST_FULL`, or those of the groups that
/// `HYPERRUN_TEST_ROWS` names, with spaces between them.
fn choose() -> Vec<Chosen> {
    let groups = [inside::GROUPS, shown::GROUPS, commands::GROUPS].into_iter().flatten();
    let rows = groups.clone().map(|group| group.rows.len()).sum();
    let named = std::env::var("HYPERRUN_TEST_ROWS").ok();
    let mut wanted = vec![named.is_some() || is_full(); rows];
    let mut sample = Sample::of_this_run();
    while wanted.iter().filter(|wanted| **wanted).count() < SAMPLE {
        wanted[sample.below(rows)] = true;
    }
    println!("seed {}, {rows} rows", sample.seed());
    let mut wanted = wanted.into_iter();
    let chosen = groups.map(|group| {
        let rows = group.rows.iter().zip(wanted.by_ref()).filter(|(_, wanted)| *wanted);
        let rows = rows.map(|(row, _)| *row).collect();
        Chosen { name: group.name, kind: group.kind, rows }
    });
    let is_named = |group: &Chosen| match &named {
        Some(names) => names.split(' ').any(|name| name == group.name),
        None => !group.rows.is_empty(),
    };
    chosen.filter(is_named).collect()
}

/// What is wrong with a row, if anything.
fn judge(row: &Row, ours: &Told, theirs: &Told) -> Option<String> {
    let said = format!("hyperrun said: {}\npodman said: {}", ours.said, theirs.said);
    let both =
        format!("{}: {}\nhyperrun {ours:#?}\npodman {theirs:#?}\n{said}", row.what, row.script);
    match (ours.is_as(theirs), row.differs) {
        (false, None) => Some(both),
        (true, Some(why)) => Some(format!("differs no longer, though {why}\n{both}")),
        _ => None,
    }
}

#[test]
fn hyperrun_and_podman_do_the_same() {
    let (hyperrun, podman) = (Engine::hyperrun(), Engine::podman());
    let chosen = choose();
    let compared = chosen.iter().map(|group| group.rows.len()).sum::<usize>();
    // Two workers share both: each of the lab's processors has something to do.
    let (groups, wrong) = (Mutex::new(chosen.iter()), Mutex::new(Vec::new()));
    let work = || {
        while let Some(group) = { groups.lock().unwrap().next() } {
            let found = match (hyperrun.tell(group), podman.tell(group)) {
                (Ok(ours), Ok(theirs)) => {
                    let both = ours.iter().zip(&theirs);
                    let all = group.rows.iter().zip(both);
                    all.filter_map(|(row, (ours, theirs))| judge(row, ours, theirs)).collect()
                }
                both => vec![format!("{}: {both:#?}", group.name)],
            };
            println!("{}: {} rows, {} wrong", group.name, group.rows.len(), found.len());
            found.iter().for_each(|found| println!("{found}"));
            wrong.lock().unwrap().extend(found);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        work();
    });
    let wrong = wrong.into_inner().unwrap();
    println!("{compared} rows compared");
    assert!(wrong.is_empty(), "{} rows of {compared}", wrong.len());
}
