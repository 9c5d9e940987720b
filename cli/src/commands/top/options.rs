//! Reads options of ps(1): those that say which columns are shown.

use thiserror::Error;

use super::columns::{Column, Field};

/// Docker's own choice, `-ef`.
const FULL: &[(Field, &str)] = &[
    (Field::User, "UID"),
    (Field::Pid, "PID"),
    (Field::Parent, "PPID"),
    (Field::Busy, "C"),
    (Field::Begun, "STIME"),
    (Field::Terminal, "TTY"),
    (Field::Time, "TIME"),
    (Field::Arguments, "CMD"),
];
/// `-e` alone.
const SHORT: &[(Field, &str)] =
    &[(Field::Pid, "PID"), (Field::Terminal, "TTY"), (Field::Time, "TIME"), (Field::Name, "CMD")];
/// `aux`.
const USAGE: &[(Field, &str)] = &[
    (Field::User, "USER"),
    (Field::Pid, "PID"),
    (Field::BusyShare, "%CPU"),
    (Field::MemoryShare, "%MEM"),
    (Field::Virtual, "VSZ"),
    (Field::Resident, "RSS"),
    (Field::Terminal, "TTY"),
    (Field::State, "STAT"),
    (Field::Begun, "START"),
    (Field::Time, "TIME"),
    (Field::Arguments, "COMMAND"),
];

/// An option that is none, or none of those.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum OptionsError {
    #[error("unknown ps option: {0}")]
    Unknown(String),
    #[error("unknown column of ps: {0:?}")]
    Column(String),
    #[error("the ps option {0} needs a list of columns")]
    NoList(String),
}

/// The columns that these options ask for.
pub(super) fn columns(options: &[String]) -> Result<Vec<Column>, OptionsError> {
    let mut words = options.iter().flat_map(|option| option.split_whitespace());
    let (mut shape, mut listed) = (None, Vec::new());
    while let Some(word) = words.next() {
        if let Some(list) = word.strip_prefix("--format=") {
            listed.extend(list_of(list)?);
            continue;
        }
        let (letters, dashed) = match word.strip_prefix('-') {
            Some(letters) => (letters, true),
            None => (word, false),
        };
        for (at, letter) in letters.char_indices() {
            match letter {
                'o' => {
                    let rest = &letters[at + 1..];
                    let list = if rest.is_empty() { words.next() } else { Some(rest) };
                    let list = list.ok_or_else(|| OptionsError::NoList(word.to_owned()))?;
                    listed.extend(list_of(list)?);
                    break;
                }
                'f' if dashed => shape = Some(FULL),
                'u' => shape = Some(USAGE),
                // All processes of the container are shown anyway, at full width.
                'e' | 'A' | 'a' | 'x' | 'w' => shape = shape.or(Some(SHORT)),
                _ => return Err(OptionsError::Unknown(word.to_owned())),
            }
        }
    }
    if !listed.is_empty() {
        return Ok(listed);
    }
    let shape = shape.unwrap_or(FULL).iter();
    Ok(shape
        .map(|(field, header)| Column { field: *field, header: (*header).to_owned() })
        .collect())
}

/// `pid,comm=NAME`: what stands behind the sign is the header, up to the end.
fn list_of(list: &str) -> Result<Vec<Column>, OptionsError> {
    let (names, header) = match list.split_once('=') {
        Some((names, header)) => (names, Some(header)),
        None => (list, None),
    };
    let mut columns = Vec::new();
    for name in names.split(',') {
        let unknown = || OptionsError::Column(name.to_owned());
        columns.push(Column::named(name).ok_or_else(unknown)?);
    }
    if let (Some(last), Some(header)) = (columns.last_mut(), header) {
        last.header = header.to_owned();
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(line: &str) -> Result<String, OptionsError> {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let columns = columns(&words)?;
        let headers: Vec<_> = columns.into_iter().map(|column| column.header).collect();
        Ok(headers.join(" "))
    }

    #[test]
    fn columns_are_those_of_ps() {
        let (full, usage) = (
            "UID PID PPID C STIME TTY TIME CMD",
            "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
        );
        for (line, wanted) in [
            ("", full),
            ("-ef", full),
            ("-f", full),
            ("-e", "PID TTY TIME CMD"),
            ("aux", usage),
            ("-aux", usage),
            ("axu", usage),
            ("-o pid,args", "PID COMMAND"),
            ("-opid -o user", "PID USER"),
            ("-eo pid,comm=WHO", "PID WHO"),
            ("-o pid=", ""),
            ("--format=%cpu,%mem,etime,nlwp", "%CPU %MEM ELAPSED NLWP"),
        ] {
            assert_eq!(headers(line).as_deref(), Ok(wanted), "{line}");
        }
    }

    #[test]
    fn others_are_refused() {
        assert_eq!(headers("-Z"), Err(OptionsError::Unknown("-Z".into())));
        assert_eq!(headers("-efL"), Err(OptionsError::Unknown("-efL".into())));
        assert_eq!(headers("--forest"), Err(OptionsError::Unknown("--forest".into())));
        assert_eq!(headers("-o pid,wchan"), Err(OptionsError::Column("wchan".into())));
        assert_eq!(headers("-o"), Err(OptionsError::NoList("-o".into())));
    }
}
