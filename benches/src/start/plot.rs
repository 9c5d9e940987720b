//! The plot: what was measured, as an SVG of bars and lines.

use std::fmt::Write;

use super::found::{Found, Growth};
use super::subject::Way;
use super::turns::Shown;
use crate::sample::{Sample, milliseconds};

/// Pixels.
const WIDTH: f64 = 860.0;
const MARGIN: f64 = 20.0;
const LABELS: f64 = 240.0;
const BAR: f64 = 16.0;
const BAR_STEP: f64 = 26.0;
const PANEL_HEIGHT: f64 = 200.0;
/// From the machine's first moment to the program's: the shades of a bar.
const SHADES: [&str; 3] = ["#1f4e79", "#4a86b8", "#9dc3e6"];
const PEER: &str = "#a6a6a6";

/// An SVG with a bar for each usual start, and a panel for each thing that starts grow with.
pub(crate) fn plot(found: &Found) -> String {
    let starts: Vec<_> = found.starts.iter().filter(|(subject, _)| subject.is_usual()).collect();
    let mut body = String::new();
    let mut y = MARGIN;
    if let Some(longest) = starts.iter().map(|(_, shown)| shown.app.most()).max() {
        let scale = (WIDTH - LABELS - 3.0 * MARGIN) / milliseconds(longest);
        text(&mut body, MARGIN, y + 4.0, "start", "From the command to the first byte, ms");
        y += 18.0;
        for (subject, shown) in &starts {
            bar(&mut body, y, scale, &subject.label(), shown);
            y += BAR_STEP;
        }
        legend(&mut body, y);
        y += 40.0;
    }
    for growth in found.growths() {
        panel(&mut body, y, &growth);
        y += PANEL_HEIGHT + 60.0;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {y:.0}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}</svg>\n"
    )
}

/// A label, the median as a bar in shades for hyperrun's clocks, and a line from least to most.
fn bar(body: &mut String, y: f64, scale: f64, label: &str, shown: &Shown) {
    let middle = y + BAR / 2.0;
    let x = |time: f64| LABELS + MARGIN + time * scale;
    text(body, LABELS + MARGIN - 8.0, middle + 4.0, "end", label);
    let app = shown.app.median_ms();
    let pieces = match &shown.machine {
        None => vec![(0.0, app, PEER)],
        Some((running, ready)) => {
            let (running, ready) = (running.median_ms(), ready.median_ms());
            let ends = [(0.0, running), (running, ready), (ready, app)];
            ends.iter().zip(SHADES).map(|((from, to), shade)| (*from, *to, shade)).collect()
        }
    };
    for (from, to, color) in pieces {
        let (left, width) = (x(from), ((to - from) * scale).max(0.0));
        add(
            body,
            format_args!(
                "<rect x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{BAR}\" \
                 fill=\"{color}\"/>"
            ),
        );
    }
    let [least, most] = [shown.app.least(), shown.app.most()].map(milliseconds).map(x);
    line(body, (least, middle), (most, middle), "black");
    let ends = x(app).max(most) + 6.0;
    // The longest one has no room behind it.
    let (at, anchor) = if ends > WIDTH - 40.0 { (x(0.0) + 6.0, "start") } else { (ends, "start") };
    text(body, at, middle + 4.0, anchor, &format!("{app:.0}"));
}

fn legend(body: &mut String, y: f64) {
    let names = ["machine running", "agent ready", "first byte"];
    for ((name, shade), x) in names.iter().zip(SHADES).zip([0.0, 150.0, 270.0]) {
        let x = LABELS + MARGIN + x;
        add(
            body,
            format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{shade}\"/>"),
        );
        text(body, x + 18.0, y + 10.0, "start", name);
    }
}

/// Axes from zero, and a line through the medians of each way to start.
fn panel(body: &mut String, top: f64, growth: &Growth) {
    let (left, right, bottom) = (MARGIN + 50.0, WIDTH - 160.0, top + 20.0 + PANEL_HEIGHT);
    let title = format!("First byte, ms, by {}", growth.label);
    text(body, MARGIN, top + 4.0, "start", &title);
    let steps = || growth.lines.iter().flat_map(|line| &line.steps);
    let most_step = steps().map(|(step, _)| *step).max().unwrap_or(1).max(1);
    let most_ms = steps().map(|(_, sample)| milliseconds(sample.most())).fold(1.0, f64::max);
    let place = |step: usize, ms: f64| {
        let across = ratio(step, most_step) * (right - left);
        (left + across, bottom - ms / most_ms * PANEL_HEIGHT)
    };
    line(body, (left, bottom), (right, bottom), "black");
    line(body, (left, bottom), (left, bottom - PANEL_HEIGHT), "black");
    text(body, left - 6.0, bottom + 4.0, "end", "0");
    text(body, left - 6.0, bottom - PANEL_HEIGHT + 4.0, "end", &format!("{most_ms:.0}"));
    let mut labelled = f64::NEG_INFINITY;
    for (step, _) in &growth.lines[0].steps {
        let x = place(*step, 0.0).0;
        // Steps that lie close together would be written over each other.
        if x - labelled > 28.0 {
            text(body, x, bottom + 16.0, "middle", &step.to_string());
            labelled = x;
        }
    }
    for grown in &growth.lines {
        let (color, name) = match grown.way {
            Way::Template => (SHADES[0], "from a template"),
            Way::Cold => (SHADES[1], "booted"),
            _ => (PEER, "QEMU, to init"),
        };
        let points: Vec<_> = grown.steps.iter().map(|(step, sample)| (*step, sample)).collect();
        curve(body, &points, place, color);
        let (step, sample) = points[points.len() - 1];
        let (x, y) = place(step, sample.median_ms());
        text(body, x + 8.0, y + 4.0, "start", name);
    }
}

/// The medians, joined, each with a line from least to most.
fn curve(
    body: &mut String,
    points: &[(usize, &Sample)],
    place: impl Fn(usize, f64) -> (f64, f64),
    color: &str,
) {
    let mut last = None;
    for (step, sample) in points {
        let at = place(*step, sample.median_ms());
        let [least, most] = [sample.least(), sample.most()].map(milliseconds);
        line(body, place(*step, least), place(*step, most), color);
        add(
            body,
            format_args!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{color}\"/>",
                at.0, at.1
            ),
        );
        if let Some(last) = last {
            line(body, last, at, color);
        }
        last = Some(at);
    }
}

#[expect(clippy::cast_precision_loss, reason = "steps are small numbers")]
fn ratio(step: usize, most: usize) -> f64 {
    step as f64 / most as f64
}

fn line(body: &mut String, from: (f64, f64), to: (f64, f64), color: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    add(
        body,
        format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{color}\"/>"
        ),
    );
}

/// `words` are our own: nothing in them needs escaping.
fn text(body: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    add(
        body,
        format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>"),
    );
}

fn add(body: &mut String, element: std::fmt::Arguments<'_>) {
    writeln!(body, "{element}").expect("a string takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::found::tests::example;

    #[test]
    fn everything_measured_is_drawn() {
        let svg = plot(&example());
        let count = |element: &str| svg.matches(element).count();
        // The ground, six peers, five times three shades, and the legend's three.
        assert_eq!(count("<rect"), 1 + 6 + 15 + 3);
        // Memory three times, layers, neighbours.
        assert_eq!(count("<circle"), 3 * 4 + 4 + 2);
        for label in ["podman run", "QEMU microvm", "layers of the image", "running containers"] {
            assert!(svg.contains(label), "no {label}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn nothing_measured_is_an_empty_picture() {
        assert_eq!(plot(&Found::default()).lines().count(), 3);
    }
}
