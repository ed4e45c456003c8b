//! What a person sees of a pull: a line for each blob on a terminal, a line for each step elsewhere, JSON for machines.

mod bars;
mod lines;

use berth_gateway::pull_shape;
use berth_wire::transfer::{PullState, pull_state::Item};

use crate::output;

/// Shows the states of a pull as they come.
pub(crate) trait Progress {
    /// Shows a state.
    fn show(&mut self, state: &PullState) -> anyhow::Result<()>;
    /// Takes what is still on the screen away or leaves it, so that other text can follow.
    fn end(&mut self) {}
}

/// The way that suits where the output goes.
pub(crate) fn choose(json: bool, quiet: bool, terminal: bool) -> Box<dyn Progress> {
    if json {
        Box::new(Json)
    } else if quiet {
        Box::new(Nothing)
    } else if terminal {
        Box::new(bars::Bars::new())
    } else {
        Box::new(lines::Lines::default())
    }
}

struct Nothing;

impl Progress for Nothing {
    fn show(&mut self, _state: &PullState) -> anyhow::Result<()> {
        Ok(())
    }
}

struct Json;

impl Progress for Json {
    fn show(&mut self, state: &PullState) -> anyhow::Result<()> {
        output::print_json(&pull_shape::pull(state))
    }
}

fn phase(state: &PullState) -> &'static str {
    pull_shape::phase(state.phase())
}

pub(crate) fn stage(item: &Item) -> &'static str {
    pull_shape::stage(item.stage())
}

/// `layer 1a2b3c4d5e6f`
pub(crate) fn name(item: &Item) -> String {
    let digest = item.descriptor.as_ref().map(|descriptor| descriptor.digest.as_str()).unwrap_or_default();
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    format!("{:<8} {}", item.kind, hex.get(..12).unwrap_or(hex))
}

pub(crate) fn size(item: &Item) -> u64 {
    item.descriptor.as_ref().map_or(0, |descriptor| descriptor.size)
}

/// The last line: what it was, how much, how long.
pub(crate) fn total(state: &PullState) -> String {
    let all: u64 = state.items.iter().map(size).sum();
    let fetched: u64 = state.items.iter().map(|item| item.fetched).sum();
    let seconds = state.elapsed_ms as f64 / 1000.0;
    let digest = state.target.as_ref().map(|target| target.digest.as_str()).unwrap_or_default();
    let rate = if seconds > 0.0 { output::size((fetched as f64 / seconds) as u64) } else { "-".to_owned() };
    format!(
        "{} {digest}: {} in {} blobs, {} fetched, {seconds:.1} s ({rate}/s)",
        state.reference,
        output::size(all),
        state.items.len(),
        output::size(fetched),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_wire::types::Descriptor;

    #[test]
    fn the_end_is_summed_up() {
        let item = Item {
            descriptor: Some(Descriptor { digest: "sha256:0123456789abcdef".into(), size: 2048, ..Default::default() }),
            kind: "layer".into(),
            fetched: 1024,
            ..Default::default()
        };
        assert_eq!(name(&item), "layer    0123456789ab");
        let state = PullState { reference: "r".into(), items: vec![item], elapsed_ms: 2000, ..Default::default() };
        assert_eq!(total(&state), "r : 2.00 KiB in 1 blobs, 1.00 KiB fetched, 2.0 s (512 B/s)");
    }
}
