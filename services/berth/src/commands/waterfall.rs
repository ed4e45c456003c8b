//! The picture of a pull: a row for each blob, time from left to right.

use std::fmt::Write as _;

use berth_wire::{
    metadata::{Verdict, verdict::Step},
    transfer::pull_state::Item,
};

use crate::output;

const WIDTH: u64 = 1000;
const NAMES: u64 = 250;
const ROW: u64 = 18;
/// Above the rows: what was pulled, what took the time, what the colours mean, and times.
const TOP: u64 = 84;
/// So many marks on the axis at most.
const MARKS: u64 = 10;

/// What is told apart: a colour each that also differs for who sees fewer of them (Okabe and Ito), and the steps it is of.
const KINDS: [(&str, &str, &[&str]); 6] = [
    ("resolve, check", "#cc79a7", &["resolve", "check"]),
    ("waiting for a turn", "#bbbbbb", &["fetch turn", "unpack turn"]),
    ("fetch", "#56b4e9", &["fetch"]),
    ("unpack", "#e69f00", &["unpack"]),
    ("commit snapshots", "#009e73", &["commit"]),
    ("record", "#0072b2", &["record"]),
];

/// The whole file.
pub(crate) fn draw(reference: &str, verdict: &Verdict, items: &[Item]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for step in &verdict.steps {
        if !rows.contains(&step.subject.as_str()) {
            rows.push(&step.subject);
        }
    }
    let height = TOP + rows.len() as u64 * ROW + 10;
    let (width, title, sentence) = (WIDTH + NAMES + 40, escaped(reference), escaped(&verdict.sentence));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<title>{title}</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"13\">{title}</text>\n<text x=\"8\" y=\"36\" fill=\"#555\">{sentence}</text>\n"
    );
    legend(&mut svg);
    let total = verdict.total_us.max(1);
    axis(&mut svg, total, height);
    for (row, subject) in (0..).zip(&rows) {
        let y = TOP + row * ROW;
        let unpacked = verdict.steps.iter().any(|step| step.subject == **subject && step.what == "unpack");
        let name = escaped(&named(subject, items, unpacked));
        line(&mut svg, format_args!("<text x=\"8\" y=\"{}\" fill=\"#333\">{name}</text>", y + 12));
        for step in verdict.steps.iter().filter(|step| step.subject == **subject) {
            let (x, width) = place(step, total);
            let (height, colour) = (if step.what == "unpack" { ROW / 2 } else { ROW - 3 }, colour(&step.what));
            let (what, took) = (escaped(&step.what), step.end_us.saturating_sub(step.begin_us));
            line(
                &mut svg,
                format_args!(
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\" opacity=\"0.85\">\
                     <title>{what} {}.{} ms</title></rect>",
                    took / 1000,
                    took % 1000 / 100
                ),
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

fn line(svg: &mut String, text: std::fmt::Arguments<'_>) {
    let _never_fails = writeln!(svg, "{text}");
}

fn legend(svg: &mut String) {
    for (place, (name, colour, _)) in (0..).zip(&KINDS) {
        let x = 8 + place * 150;
        line(svg, format_args!("<path d=\"M{x} 46h12v12h-12z\" fill=\"{colour}\" opacity=\"0.85\"/>"));
        line(svg, format_args!("<text x=\"{}\" y=\"56\" fill=\"#333\">{name}</text>", x + 18));
    }
}

/// Times, and a line down from each.
fn axis(svg: &mut String, total: u64, height: u64) {
    let step = step(total);
    for at in (0..=total).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        let x = NAMES + at * WIDTH / total;
        let bottom = height - 6;
        line(svg, format_args!("<path d=\"M{x} {}V{bottom}\" stroke=\"#ddd\"/>", TOP - 6));
        let time = if step < 1000 { format!("{at} µs") } else { format!("{} ms", at / 1000) };
        line(svg, format_args!("<text x=\"{x}\" y=\"{}\" fill=\"#555\" text-anchor=\"middle\">{time}</text>", TOP - 9));
    }
}

/// Microseconds between two marks: 1, 2 or 5 of some power of ten.
fn step(total: u64) -> u64 {
    let powers = std::iter::successors(Some(1_u64), |power| power.checked_mul(10));
    powers.flat_map(|power| [power, 2 * power, 5 * power]).find(|step| total / step <= MARKS).unwrap_or(total)
}

/// A blob as people know it: what it is, how large, and how its digest begins.
fn named(subject: &str, items: &[Item], unpacked: bool) -> String {
    if subject.is_empty() {
        return "the pull".to_owned();
    }
    let short = subject.get(..19).unwrap_or(subject);
    let is_it = |item: &&Item| item.descriptor.as_ref().is_some_and(|descriptor| descriptor.digest == subject);
    match items.iter().find(is_it) {
        // Sizes are not kept for long.
        None if unpacked => format!("{short}  layer"),
        None => short.to_owned(),
        Some(item) => {
            let size = item.descriptor.as_ref().map_or(0, |descriptor| descriptor.size);
            format!("{short}  {} {}", item.kind, output::size(size))
        }
    }
}

/// Where a step begins, and how wide it is; never invisible.
fn place(step: &Step, total: u64) -> (u64, u64) {
    let at = |us: u64| us.min(total) * WIDTH / total;
    (NAMES + at(step.begin_us), (at(step.end_us) - at(step.begin_us.min(step.end_us))).max(1))
}

fn colour(what: &str) -> &'static str {
    KINDS.iter().find(|(_, _, steps)| steps.contains(&what)).map_or("#0072b2", |(_, colour, _)| colour)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use berth_wire::types::Descriptor;

    use super::*;

    #[test]
    fn a_picture_holds_what_it_is_told() {
        let step = |subject: &str, what: &str, begin_us, end_us| Step {
            subject: subject.into(),
            what: what.into(),
            begin_us,
            end_us,
        };
        let verdict = Verdict {
            total_us: 1000,
            steps: vec![
                step("", "resolve", 0, 100),
                step("sha256:ab", "fetch", 100, 900),
                step("", "record", 990, 5000),
            ],
            ..Verdict::default()
        };
        let descriptor = Descriptor { digest: "sha256:ab".into(), size: 2048, ..Descriptor::default() };
        let items = [Item { descriptor: Some(descriptor), kind: "layer".into(), ..Item::default() }];
        let svg = draw("a/b<c>&\"d\"", &verdict, &items);
        assert!(svg.contains("a/b&lt;c&gt;&amp;&quot;d&quot;") && !svg.contains("<c>"), "{svg}");
        assert!(svg.contains("sha256:ab  layer 2.00 KiB") && svg.contains("500 µs"), "{svg}");
        assert_eq!(svg.matches("<rect x=").count(), 3);
        assert_eq!(place(&verdict.steps[1], 1000), (NAMES + 100, 800));
        assert_eq!(place(&verdict.steps[2], 1000), (NAMES + 990, 10), "cut at the end");
    }

    #[test]
    fn marks_are_round_and_few() {
        for (total, expected) in [(1, 1), (10, 1), (11, 2), (22, 5), (772_000, 100_000), (5_000_000, 500_000)] {
            assert_eq!(step(total), expected, "{total}");
        }
        assert!(u64::MAX / step(u64::MAX) <= MARKS);
    }
}
