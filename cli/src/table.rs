//! Lines with tabs as columns, as Docker prints them.

use std::iter::repeat_n;

/// The spaces between two columns.
const GAP: usize = 3;

/// No column but the last is narrower than this, as with Docker.
const MIN_WIDTH: usize = 10;

/// Lays lines out whose cells are separated by tabs, in columns as wide as their widest cell; the
/// last cell ends its line.
pub(crate) fn lay_out(text: &str) -> String {
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        widths.resize(widths.len().max(row.len()), MIN_WIDTH);
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (cell.chars().count() + GAP).max(*width);
        }
    }
    let mut out = String::new();
    for row in rows {
        let begin = out.len();
        for (width, cell) in widths.iter().zip(row) {
            out.push_str(cell);
            out.extend(repeat_n(' ', width - cell.chars().count()));
        }
        out.truncate(begin + out[begin..].trim_end().len());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must() {
        let text = "A\tBB\tC\nlong one\tx\ty\nö\t\tz\n";
        let wanted = "A          BB        C\nlong one   x         y\nö                    z\n";
        assert_eq!(lay_out(text), wanted);
        assert_eq!(lay_out(""), "");
    }
}
