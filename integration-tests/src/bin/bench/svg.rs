//! A picture of the medians: for each link and image a group of bars, one for each who pulled.

use std::fmt::Write as _;

/// One group.
pub(crate) struct Group {
    pub(crate) title: String,
    /// Who, the median in seconds, and the least.
    pub(crate) bars: Vec<(String, f64, f64)>,
}

const WIDTH: f64 = 900.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 90.0;
const BAR: f64 = 18.0;
const GAP: f64 = 26.0;

/// The whole file. Each group has a scale of its own: images differ by a factor of a hundred.
pub(crate) fn draw(groups: &[Group]) -> String {
    let mut body = String::new();
    let mut y = 30.0;
    for group in groups {
        let most = group.bars.iter().map(|bar| bar.1).fold(f64::MIN_POSITIVE, f64::max);
        push(&mut body, format_args!(r#"<text x="10" y="{y}" class="title">{}</text>"#, escaped(&group.title)));
        y += 10.0;
        for (name, median, least) in &group.bars {
            let width = |value: f64| value / most * (WIDTH - LEFT - RIGHT);
            let middle = y + BAR / 2.0;
            let class =
                if ["berth", "daemon", "nats"].iter().any(|ours| name.starts_with(ours)) { "ours" } else { "theirs" };
            push(
                &mut body,
                format_args!(
                    r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
                    LEFT - 8.0,
                    middle + 4.0,
                    escaped(name)
                ),
            );
            push(
                &mut body,
                format_args!(
                    r#"<rect x="{LEFT}" y="{y}" width="{:.1}" height="{}" class="{class}"/>"#,
                    width(*median),
                    BAR - 4.0
                ),
            );
            let mark = LEFT + width(*least);
            push(&mut body, format_args!(r#"<line x1="{mark:.1}" x2="{mark:.1}" y1="{y}" y2="{}"/>"#, y + BAR - 4.0));
            push(
                &mut body,
                format_args!(
                    r#"<text x="{:.1}" y="{}">{median:.2} s</text>"#,
                    LEFT + width(*median) + 6.0,
                    middle + 4.0
                ),
            );
            y += BAR;
        }
        y += GAP;
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y}\" viewBox=\"0 0 {WIDTH} {y}\">\n\
         <style>text {{ font: 12px sans-serif; fill: #222 }} .title {{ font-weight: bold }} .ours {{ fill: #1f77b4 }} \
         .theirs {{ fill: #b8b8b8 }} line {{ stroke: #222; stroke-width: 2 }}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{body}\
         <text x=\"10\" y=\"{}\">whole cold pulls: medians, and the least as a mark; each group has its own scale</text>\n</svg>\n",
        y - 8.0
    )
}

fn push(body: &mut String, line: std::fmt::Arguments<'_>) {
    let _never_fails = writeln!(body, "{line}");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_width() {
        let bars = vec![("berth".to_owned(), 1.0, 0.5), ("a<b".to_owned(), 4.0, 4.0)];
        let svg = draw(&[Group { title: "an image".to_owned(), bars }]);
        assert!(svg.contains("width=\"660.0\"") && svg.contains("width=\"165.0\""), "{svg}");
        assert!(svg.contains("a&lt;b") && svg.contains(r#"class="ours""#) && svg.ends_with("</svg>\n"));
    }
}
