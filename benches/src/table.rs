//! A table of times: median, least, most, and the ratios to some of them.

use crate::sample::{Sample, milliseconds};

/// The names of the columns; `ratios` says to what the ratios are.
pub(crate) fn head(title: &str, ratios: &[&str]) {
    print!("{title:42} {:>10} {:>10} {:>10}", "median", "least", "most");
    ratios.iter().for_each(|name| print!(" {name:>8}"));
    println!();
}

/// One line; a yardstick that was not measured has no ratio.
pub(crate) fn line(name: &str, sample: &Sample, yardsticks: &[Option<&Sample>]) {
    print!("{name:42}");
    for time in [sample.median(), sample.least(), sample.most()] {
        print!(" {:>7.1} ms", milliseconds(time));
    }
    for yardstick in yardsticks {
        match yardstick {
            Some(yardstick) => print!(" {:>8.2}", sample.ratio_to(yardstick)),
            None => print!(" {:>8}", "-"),
        }
    }
    println!();
}
