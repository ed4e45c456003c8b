//! Medians and ratios: a table for people, JSON for programs.

use std::fmt::Write as _;

use berth_testing::docker_registry::Tls;
use serde_json::{Map, Value, json};

use crate::{limits::Limits, measure::Sample, setting::http, svg::Group};

/// What one peer took for one image.
pub(crate) struct Series {
    image: String,
    link: String,
    peer: String,
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    pub(crate) fn new(image: &str, link: &str, peer: &str) -> Self {
        let (image, link, peer) = (image.to_owned(), link.to_owned(), peer.to_owned());
        Self { image, link, peer, samples: Vec::new() }
    }

    fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of).collect())
    }

    /// What this machine does besides changes from round to round, and within one less.
    fn paired(&self, base: &Self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().zip(&base.samples).map(|(one, base)| of(one) / of(base)).collect())
    }

    fn least(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        self.samples.iter().map(of).fold(f64::NAN, f64::min)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
    if values.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) }
}

/// The reference that ratios are against: containerd, if it took part, else whoever was named last.
fn base(series: &[Series]) -> Option<&Series> {
    series.iter().find(|series| series.peer == "containerd").or_else(|| series.last())
}

/// A table of one image.
pub(crate) fn table(image: &str, link: &str, tls: Option<Tls>, series: &[Series]) -> String {
    let tls = tls.map_or_else(String::new, |tls| format!(", TLS with HTTP/{}", http(tls)));
    let mut out = format!("{image}, {link}{tls}\n");
    let Some(base) = base(series) else { return out };
    let line = |out: &mut String, text: std::fmt::Arguments<'_>| {
        let _never_fails = writeln!(out, "{text}");
    };
    let rounds = base.samples.len();
    line(
        &mut out,
        format_args!(
            "  {:<12}{:>8}{:>8}{:>7}{:>8}{:>7}{:>7}{:>8}{:>8}{:>9}   (medians of {rounds}; ratios to {})",
            "", "wall s", "least", "ratio", "cpu s", "sys", "ratio", "flush s", "rss MB", "recv MB", base.peer
        ),
    );
    for one in series {
        let (wall, cpu) = (one.median(|s| s.wall), one.median(|s| s.cpu));
        line(
            &mut out,
            format_args!(
                "  {:<12}{wall:>8.3}{:>8.3}{:>7.3}{cpu:>8.2}{:>7.2}{:>7.3}{:>8.2}{:>8.0}{:>9.1}",
                one.peer,
                one.least(|s| s.wall),
                wall / base.median(|s| s.wall),
                one.median(|s| s.system),
                cpu / base.median(|s| s.cpu),
                one.median(|s| s.flush),
                one.median(|s| s.rss as f64) / 1e6,
                one.median(|s| s.bytes.unwrap_or(0) as f64) / 1e6,
            ),
        );
    }
    for one in series.iter().filter(|one| one.peer != base.peer) {
        line(
            &mut out,
            format_args!(
                "  {} to {}, medians of the ratios of each round: wall {:.3}, cpu {:.3}",
                one.peer,
                base.peer,
                one.paired(base, |s| s.wall),
                one.paired(base, |s| s.cpu),
            ),
        );
    }
    out
}

/// All numbers, beside what they were measured with.
pub(crate) fn json(mut setting: Map<String, Value>, all: &[Series], bounds: &[(String, Limits)]) -> Value {
    let number = |sample: &Sample| {
        json!({
            "wall_s": sample.wall, "cpu_s": sample.cpu, "system_s": sample.system, "rss_bytes": sample.rss,
            "flush_s": sample.flush, "received_bytes": sample.bytes,
        })
    };
    let one = |series: &Series| {
        json!({
            "image": series.image, "link": series.link, "peer": series.peer,
            "median_wall_s": series.median(|s| s.wall), "median_cpu_s": series.median(|s| s.cpu),
            "samples": series.samples.iter().map(number).collect::<Vec<_>>(),
        })
    };
    let bound = |(image, limits): &(String, Limits)| {
        json!({
            "image": image, "cpus": limits.cpus, "download_s": limits.download, "sha256_s": limits.hash,
            "inflate_s": limits.inflate, "create_s": limits.create, "flush_s": limits.flush,
            "together_s": limits.together, "bound_s": limits.bound(), "durable_bound_s": limits.durable(),
        })
    };
    setting.insert("pulls".to_owned(), all.iter().map(one).collect());
    setting.insert("limits".to_owned(), bounds.iter().map(bound).collect());
    setting.into()
}

/// What the machine can do at most, and how near the pulls of Berth on as many processors come to it.
pub(crate) fn limits(rows: &[Limits], used: usize, series: &[Series]) -> String {
    let mut out = format!(
        "  {:<12}{:>10}{:>8}{:>9}{:>8}{:>8}{:>10}{:>8}{:>9}\n",
        "processors", "download", "sha256", "inflate", "create", "flush", "together", "ratio", "durable"
    );
    for row in rows {
        let ours = series.iter().find(|series| series.peer == "berth").filter(|_| row.cpus == used);
        let ratio =
            |bound: f64| ours.map_or_else(|| "-".into(), |ours| format!("{:.2}", ours.median(|s| s.wall) / bound));
        let _never_fails = writeln!(
            out,
            "  {:<12}{:>10.3}{:>8.3}{:>9.3}{:>8.3}{:>8.3}{:>10.3}{:>8}{:>9}",
            row.cpus,
            row.download,
            row.hash,
            row.inflate,
            row.create,
            row.flush,
            row.together,
            ratio(row.bound()),
            ratio(row.durable())
        );
    }
    let engine = crate::limits::engine();
    let _never_fails = write!(
        out,
        "  seconds of each stage alone, the least of some tries, gzip by {engine}; together: processor time of all but the flush,\n  \
         divided. Ratio: what Berth took to the most of these without the flush; durable: to that, or to create and flush one\n  \
         after the other, if they take longer\n"
    );
    out
}

/// For the picture: those of one image and link together.
pub(crate) fn groups(all: &[Series]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for series in all {
        let image = series.image.rsplit('/').next().unwrap_or(&series.image);
        let title = format!("{image}, {}", series.link);
        let bar = (series.peer.clone(), series.median(|s| s.wall), series.least(|s| s.wall));
        match groups.last_mut().filter(|group| group.title == title) {
            Some(group) => group.bars.push(bar),
            None => groups.push(Group { title, bars: vec![bar] }),
        }
    }
    groups
}
