//! The rules of the house that a machine can check: file and function lengths, the direction of
//! imports, first lines, that fuzz targets are tests, and that docs/architecture.md names only what
//! is there.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest file, in lines of code: no blank lines, comments or unit tests.
const MAX_FILE_LINES: usize = 400;

/// The longest function, in lines from its `fn` to its closing brace.
const MAX_FUNCTION_LINES: usize = 80;

/// Files and functions that may be longer, each with its reason.
const EXEMPT: &[(&str, &str)] = &[];

/// Which siblings each crate may import.
const IMPORTS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("trees", &["protocol"]),
    ("vmm", &[]),
    ("images", &[]),
    ("registry", &["images"]),
    ("resolver", &[]),
    ("agent", &["protocol", "trees"]),
    ("runtime", &["protocol", "trees", "vmm", "images"]),
    ("cli", &["runtime", "images", "vmm"]),
    ("benches", &[]),
];

/// The crates in which no file may hold `unsafe`.
const SAFE_CRATES: &[&str] =
    &["protocol", "trees", "images", "resolver", "runtime", "cli", "benches"];

fn house() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the house").to_owned()
}

/// Every Rust file of the workspace, as a path relative to the house and its text.
fn rust_files() -> Vec<(String, String)> {
    let house = house();
    let mut files = Vec::new();
    for (folder, _) in IMPORTS {
        collect(&house.join(folder), &house, &mut files);
    }
    for folder in ["tests", "fuzz"] {
        collect(&house.join(folder), &house, &mut files);
    }
    assert!(files.len() > 20, "the walk has lost its way: {} files", files.len());
    files
}

fn collect(folder: &Path, house: &Path, files: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .expect("a folder of the house")
        .map(|entry| entry.expect("readable").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, house, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("source is UTF-8");
            let name = path.strip_prefix(house).expect("below the house");
            let name = name.to_str().expect("names are UTF-8").to_owned();
            files.push((name, text));
        }
    }
}

/// The lines before the unit tests, which stand last in a file.
fn without_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().take_while(|(_, line)| *line != "#[cfg(test)]")
}

fn exempt(what: &str) -> bool {
    EXEMPT.iter().any(|(name, _)| *name == what)
}

fn report(broken: &[String]) {
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn files_are_short() {
    let broken: Vec<_> = rust_files()
        .iter()
        .filter_map(|(name, text)| {
            let code = without_tests(text)
                .filter(|(_, line)| !line.trim().is_empty() && !line.trim().starts_with("//"))
                .count();
            (code > MAX_FILE_LINES && !exempt(name)).then(|| format!("{name}: {code} lines"))
        })
        .collect();
    report(&broken);
}

#[test]
fn functions_are_short() {
    let mut broken = Vec::new();
    for (name, text) in rust_files() {
        let mut open: Option<(usize, usize, &str)> = None;
        for (number, line) in without_tests(&text) {
            let indent = line.len() - line.trim_start().len();
            match open {
                None if is_function(line) && !line.ends_with('}') && !line.ends_with(';') => {
                    open = Some((indent, number, line.trim()));
                }
                Some((at, start, head)) if indent == at && line.trim() == "}" => {
                    let lines = number - start + 1;
                    let place = format!("{name}: {head}");
                    if lines > MAX_FUNCTION_LINES && !exempt(&place) {
                        broken.push(format!("{place} has {lines} lines"));
                    }
                    open = None;
                }
                Some((at, ..)) if indent == at && line.ends_with(';') => open = None,
                _ => {}
            }
        }
    }
    report(&broken);
}

fn is_function(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let modifiers = ["pub", "pub(crate)", "pub(super)", "const", "unsafe", "extern", "\"C\""];
    words.find(|word| !modifiers.contains(word)) == Some("fn")
}

#[test]
fn every_file_says_its_job_first() {
    let broken: Vec<_> = rust_files()
        .iter()
        .filter(|(_, text)| !text.starts_with("//! "))
        .map(|(name, _)| format!("{name}: the first line is no `//! ` that says its job"))
        .collect();
    report(&broken);
}

#[test]
fn imports_go_one_way() {
    let house = house();
    let mut broken = Vec::new();
    for (name, allowed) in IMPORTS {
        let manifest = fs::read_to_string(house.join(name).join("Cargo.toml")).unwrap();
        for (sibling, _) in IMPORTS {
            // What is packaged is not imported.
            let mut lines = manifest.lines().take_while(|line| *line != "[package.metadata.deb]");
            let imported = lines.any(|line| {
                line.starts_with(&format!("{sibling}."))
                    || line.starts_with(&format!("{sibling} "))
                    || line.contains(&format!("hyperrun-{sibling}\"")) && !line.starts_with("name")
            });
            if imported && !allowed.contains(sibling) {
                broken.push(format!("{name} must not import {sibling}"));
            }
        }
    }
    report(&broken);
}

#[test]
fn safe_crates_forbid_unsafe_code() {
    let house = house();
    let broken: Vec<_> = SAFE_CRATES
        .iter()
        .filter(|name| {
            let root = ["src/lib.rs", "src/main.rs"]
                .iter()
                .find_map(|file| fs::read_to_string(house.join(name).join(file)).ok())
                .expect("a crate has a root");
            !root.contains("#![forbid(unsafe_code)]")
        })
        .map(|name| format!("{name} does not forbid unsafe code"))
        .collect();
    report(&broken);
}

#[test]
fn the_architecture_names_only_what_is_there() {
    let house = house();
    let text = fs::read_to_string(house.join("docs/architecture.md")).unwrap();
    let named: Vec<_> = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && !word.contains([' ', '<', '*', '$', ':', '{']))
        .filter(|word| IMPORTS.iter().any(|(name, _)| word.starts_with(&format!("{name}/"))))
        .collect();
    assert!(named.len() > 20, "docs/architecture.md names only {} modules", named.len());
    let broken: Vec<_> = named
        .iter()
        .filter(|path| !house.join(path).exists())
        .map(|path| format!("docs/architecture.md names {path}, which is not there"))
        .collect();
    report(&broken);
}

#[test]
fn every_fuzz_target_is_also_a_test() {
    let files = rust_files();
    let targets: Vec<_> = files
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("fuzz/src/bin/")?.strip_suffix(".rs"))
        .collect();
    assert!(targets.len() > 5, "the walk has lost its way: {targets:?}");
    let broken: Vec<_> = targets
        .iter()
        .filter(|target| {
            let test = format!("corpus::each(\"{target}\"");
            !files.iter().any(|(_, text)| text.contains(&test))
        })
        .map(|target| format!("nothing tests the corpus of the fuzz target {target}"))
        .collect();
    report(&broken);
}
