//! Progress where no terminal is: one line whenever a blob comes to its next stage.

use std::{collections::BTreeMap, io::Write as _};

use berth_wire::transfer::PullState;

use super::{Progress, name, size, stage};
use crate::output;

/// Lines on standard error.
#[derive(Default)]
pub(crate) struct Lines {
    shown: BTreeMap<String, &'static str>,
}

impl Progress for Lines {
    fn show(&mut self, state: &PullState) -> anyhow::Result<()> {
        for line in self.lines(state) {
            writeln!(std::io::stderr().lock(), "{line}")?;
        }
        Ok(())
    }
}

impl Lines {
    /// The lines a state adds. Waiting is not worth one.
    fn lines(&mut self, state: &PullState) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(target) = &state.target
            && self.shown.insert("target".to_owned(), "resolved").is_none()
        {
            lines.push(format!("{:>6.1}s resolved {} to {}", seconds(state), state.reference, target.digest));
        }
        for item in &state.items {
            let (name, stage) = (name(item), stage(item));
            if stage != "waiting" && self.shown.insert(name.clone(), stage) != Some(stage) {
                lines.push(format!("{:>6.1}s {name} {stage} ({})", seconds(state), output::size(size(item))));
            }
        }
        lines
    }
}

fn seconds(state: &PullState) -> f64 {
    state.elapsed_ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_wire::{
        transfer::pull_state::{Item, item::Stage},
        types::Descriptor,
    };

    #[test]
    fn a_line_for_each_stage_and_no_more() {
        let mut item = Item {
            descriptor: Some(Descriptor { digest: "sha256:0123456789abcdef".into(), size: 2048, ..Default::default() }),
            kind: "layer".into(),
            ..Default::default()
        };
        let mut lines = Lines::default();
        let mut show = |item: &Item| lines.lines(&PullState { items: vec![item.clone()], ..Default::default() });
        assert!(show(&item).is_empty());
        item.set_stage(Stage::Downloading);
        assert_eq!(show(&item), ["   0.0s layer    0123456789ab downloading (2.00 KiB)"]);
        item.offset = 5;
        assert!(show(&item).is_empty());
        item.set_stage(Stage::Done);
        assert_eq!(show(&item).len(), 1);
    }
}
