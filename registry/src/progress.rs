//! Shows how far the layers are: a bar for each on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};

use images::{Descriptor, Talk};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::error::Error;

/// What is said, and where. Words that Docker prints go to stdout; progress never does.
#[derive(Debug)]
pub(crate) struct Voice {
    talk: Talk,
    bars: Option<MultiProgress>,
}

impl Voice {
    pub(crate) fn new(talk: Talk) -> Voice {
        let shown = talk != Talk::Quiet && io::stderr().is_terminal();
        let bars =
            shown.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(15)));
        Voice { talk, bars }
    }

    /// One of Docker's lines.
    pub(crate) fn say(&self, line: &str) -> Result<(), Error> {
        match self.talk {
            Talk::Quiet => Ok(()),
            Talk::Normal => print(line),
            Talk::Aside => {
                aside(line);
                Ok(())
            }
        }
    }

    /// What a script wants to know: the last line, and with `-q` the only one.
    pub(crate) fn result(&self, line: &str) -> Result<(), Error> {
        match self.talk {
            Talk::Aside => Ok(()),
            Talk::Quiet | Talk::Normal => print(line),
        }
    }

    /// Something that is no failure.
    pub(crate) fn warn(&self, line: &str) {
        self.note(&format!("warning: {line}"));
    }

    /// A line for whoever watches; bars stay below it.
    pub(crate) fn note(&self, line: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| aside(line)),
            None => aside(line),
        }
    }

    /// A layer that is about to be read or written.
    pub(crate) fn layer(&self, descriptor: &Descriptor, words: &'static str) -> ProgressBar {
        let name = short(descriptor);
        let Some(bars) = &self.bars else {
            self.plain(&name, words);
            return ProgressBar::hidden();
        };
        let bar = bars.add(ProgressBar::new(descriptor.size));
        let style = "{prefix}: {msg} [{bar:30}] {bytes}/{total_bytes}";
        let style =
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        bar.set_prefix(name);
        bar.set_message(words);
        bar
    }

    /// A layer that is done.
    pub(crate) fn done(&self, descriptor: &Descriptor, bar: &ProgressBar, words: &'static str) {
        if self.bars.is_some() {
            if let Ok(style) = ProgressStyle::with_template("{prefix}: {msg}") {
                bar.set_style(style);
            }
            bar.finish_with_message(words);
        } else {
            self.plain(&short(descriptor), words);
        }
    }

    fn plain(&self, name: &str, words: &str) {
        if self.talk != Talk::Quiet {
            aside(&format!("{name}: {words}"));
        }
    }
}

fn short(descriptor: &Descriptor) -> String {
    descriptor.digest.short()
}

/// Writes to stdout. A reader that has gone away, as `head` does, is no failure.
pub(crate) fn print(line: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|source| Error::Stdio { action: "write to stdout", source }),
    }
}

/// Writes to stderr; where it is closed nobody listens.
pub(crate) fn aside(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}
