//! Progress on a terminal: a line for each blob with bar, bytes, rate and stage, and one for the whole.

use std::{collections::BTreeMap, time::Duration};

use berth_wire::transfer::{PullState, pull_state::item::Stage};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Progress, name, phase, size, stage};

/// Bars on standard error.
pub(crate) struct Bars {
    all: MultiProgress,
    total: ProgressBar,
    items: BTreeMap<String, ProgressBar>,
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours; one that indicatif refuses would show its plain bar.
    ProgressStyle::with_template(template).unwrap_or_else(|_refused| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Bars {
    pub(crate) fn new() -> Self {
        let all = MultiProgress::new();
        let total = all.add(ProgressBar::new(0));
        total.set_style(style(
            "{prefix:21} [{bar:24}] {bytes:>11} / {total_bytes:<11} {bytes_per_sec:>13} {msg} {elapsed}",
        ));
        total.enable_steady_tick(Duration::from_millis(200));
        Self { all, total, items: BTreeMap::new() }
    }
}

impl Progress for Bars {
    fn show(&mut self, state: &PullState) -> anyhow::Result<()> {
        let (mut bytes, mut length) = (0, 0);
        for item in &state.items {
            let name = name(item);
            let bar = self.items.entry(name.clone()).or_insert_with(|| {
                let bar = self.all.insert_before(&self.total, ProgressBar::new(size(item)));
                bar.set_style(style(
                    "{prefix:21} [{bar:24}] {bytes:>11} / {total_bytes:<11} {bytes_per_sec:>13} {msg}",
                ));
                bar.set_prefix(name);
                bar
            });
            // While the last of a layer is unpacked its bar shows that.
            let at = if item.stage() == Stage::Unpacking { item.unpacked } else { item.offset };
            bar.set_position(at.min(size(item)));
            bar.set_message(stage(item));
            if matches!(item.stage(), Stage::Done | Stage::Exists) && !bar.is_finished() {
                bar.set_position(size(item));
                bar.abandon();
            }
            bytes += item.offset;
            length += size(item);
        }
        self.total.set_prefix("total");
        self.total.set_message(phase(state));
        self.total.set_length(length);
        self.total.set_position(bytes.min(length));
        Ok(())
    }

    fn end(&mut self) {
        for bar in self.items.values() {
            if !bar.is_finished() {
                bar.abandon();
            }
        }
        self.total.finish_and_clear();
    }
}
