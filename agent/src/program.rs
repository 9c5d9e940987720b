//! A program with its arguments and environment, found along `PATH` as execvp(3) finds it.

use std::ffi::CString;

use protocol::{ProcessSpec, StartError};
use rustix::io::Errno;

use crate::sys::{self, CStringArray};

/// What will be executed, laid out before the process that does so exists.
pub(crate) struct Program {
    name: String,
    candidates: Vec<CString>,
    arguments: CStringArray,
    environment: CStringArray,
}

impl Program {
    /// Prepares a program that is run by someone whose home is `home`.
    pub(crate) fn new(spec: &ProcessSpec, home: &[u8]) -> Result<Self, StartError> {
        let name = spec.args.first().map(Vec::as_slice).unwrap_or_default();
        let mut environment = spec.env.clone();
        if variable(&environment, b"HOME").is_none() {
            environment.push([b"HOME=", home].concat());
        }
        let path = variable(&environment, b"PATH");
        Ok(Self {
            name: String::from_utf8_lossy(name).into_owned(),
            candidates: c_strings(candidates(name, path))?,
            arguments: CStringArray::new(c_strings(spec.args.clone())?),
            environment: CStringArray::new(c_strings(environment)?),
        })
    }

    /// Becomes the program. Returns only when that fails.
    pub(crate) fn execute(&self) -> StartError {
        let mut failures = Vec::new();
        for candidate in &self.candidates {
            let error = sys::execute(candidate, &self.arguments, &self.environment);
            failures.push(error);
            if !may_be_elsewhere(error) {
                break;
            }
        }
        self.failure(&failures)
    }

    /// The one error out of those of all candidates: a program that is there but cannot be
    /// executed says more than one that is missing.
    fn failure(&self, errors: &[Errno]) -> StartError {
        let program = self.name.clone();
        match errors.iter().find(|error| !is_missing(**error)) {
            None => StartError::NotFound { program },
            Some(error) => StartError::NotExecutable { program, reason: reason(*error) },
        }
    }
}

/// Where a program of this name may be, along a path that is not empty.
pub(crate) fn places(name: &[u8], path: &[u8]) -> Vec<Vec<u8>> {
    candidates(name, Some(path).filter(|path| !path.is_empty()))
}

/// Where a program of this name may be. `None` for the path stands for what execvp(3) takes then.
fn candidates(name: &[u8], path: Option<&[u8]>) -> Vec<Vec<u8>> {
    const DEFAULT_PATH: &[u8] = b"/bin:/usr/bin";
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains(&b'/') {
        return vec![name.to_vec()];
    }
    let folders = path.unwrap_or(DEFAULT_PATH).split(|byte| *byte == b':');
    folders
        .map(|folder| match folder {
            // An empty part is the working directory.
            b"" => [b"./", name].concat(),
            folder => [folder, b"/", name].concat(),
        })
        .collect()
}

/// The value of a variable; the last one counts, as in a shell that reads them in order.
fn variable<'a>(environment: &'a [Vec<u8>], name: &[u8]) -> Option<&'a [u8]> {
    environment
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix(name).and_then(|rest| rest.strip_prefix(b"=")))
}

fn is_missing(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR)
}

fn may_be_elsewhere(error: Errno) -> bool {
    is_missing(error) || matches!(error, Errno::ACCESS | Errno::ISDIR | Errno::NAMETOOLONG)
}

/// The kernel's words, which Docker shows too: `permission denied`, `exec format error`.
fn reason(error: Errno) -> String {
    match error {
        Errno::ACCESS => "permission denied".into(),
        Errno::NOEXEC => "exec format error".into(),
        Errno::ISDIR => "is a directory".into(),
        Errno::TOOBIG => "argument list too long".into(),
        Errno::LOOP => "too many levels of symbolic links".into(),
        Errno::NAMETOOLONG => "file name too long".into(),
        error => error.to_string(),
    }
}

fn c_strings(strings: Vec<Vec<u8>>) -> Result<Vec<CString>, StartError> {
    let strings = strings.into_iter().map(CString::new).collect::<Result<_, _>>();
    strings.map_err(|error| StartError::Setup {
        message: format!("an argument or variable holds a NUL byte: {error}"),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn spec(args: &[&str], env: &[&str]) -> ProcessSpec {
        let bytes = |strings: &[&str]| strings.iter().map(|s| s.as_bytes().to_vec()).collect();
        ProcessSpec {
            args: bytes(args),
            env: bytes(env),
            working_dir: "/".into(),
            user: protocol::User::default(),
            terminal: None,
            stdin: false,
            limits: Vec::new(),
            more_groups: Vec::new(),
            capabilities: protocol::Capabilities::default(),
            no_new_privileges: false,
            oom_score_adjustment: None,
            seccomp: Vec::new(),
        }
    }

    #[test]
    fn programs_are_looked_for_along_the_path() {
        for (name, path, expected) in [
            ("sh", Some("/usr/bin:/bin"), vec!["/usr/bin/sh", "/bin/sh"]),
            ("sh", None, vec!["/bin/sh", "/usr/bin/sh"]),
            ("sh", Some("/a::/b"), vec!["/a/sh", "./sh", "/b/sh"]),
            ("sh", Some(""), vec!["./sh"]),
            ("./run", Some("/bin"), vec!["./run"]),
            ("/bin/sh", Some("/usr"), vec!["/bin/sh"]),
            ("", Some("/bin"), vec![]),
        ] {
            let found = candidates(name.as_bytes(), path.map(str::as_bytes));
            let expected: Vec<_> = expected.into_iter().map(|s| s.as_bytes().to_vec()).collect();
            assert_eq!(found, expected, "{name} in {path:?}");
        }
    }

    #[test]
    fn variables_are_whole_names_and_the_last_counts() {
        let environment = [&b"HOMEPAGE=x"[..], b"HOME=/a", b"HOME=/b", b"EMPTY=", b"BARE"];
        let environment = environment.map(<[u8]>::to_vec);
        for (name, expected) in
            [("HOME", Some("/b")), ("EMPTY", Some("")), ("BARE", None), ("PAGE", None)]
        {
            let value = variable(&environment, name.as_bytes());
            assert_eq!(value, expected.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn failures_are_told_as_a_shell_tells_them() {
        let program = Program::new(&spec(&["tool"], &["PATH=/a:/b"]), b"/").unwrap();
        let not_found = StartError::NotFound { program: "tool".into() };
        let denied = |reason: &str| StartError::NotExecutable {
            program: "tool".into(),
            reason: reason.into(),
        };
        for (errors, expected) in [
            (&[][..], not_found.clone()),
            (&[Errno::NOENT, Errno::NOTDIR], not_found),
            (&[Errno::ACCESS, Errno::NOENT], denied("permission denied")),
            (&[Errno::NOENT, Errno::NOEXEC], denied("exec format error")),
        ] {
            assert_eq!(program.failure(errors), expected, "{errors:?}");
        }
    }

    #[test]
    fn bytes_that_end_a_string_are_refused() {
        let result = Program::new(&spec(&["a\0b"], &[]), b"/");
        assert!(matches!(result, Err(StartError::Setup { .. })));
    }
}
