//! What one tree has and another has not, as a layer.
//!
//! [`changes`] walks both and says what differs, in order; [`writer`] writes that as an archive; [`stream`] compresses and
//! hashes it on its way to where it is stored. Equal trees give equal bytes, on any machine and at any time.

pub mod changes;
pub mod stream;
pub mod writer;

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use berth_model::Status;
use berth_wire::types::Mount;

use crate::{
    diff::{
        changes::{Changes, Guides},
        writer::LayerWriter,
    },
    layout::Scratch,
    view::{self, View},
};

/// Writes what `upper` shows and `lower` does not. `latest`: no time in the layer is later, in seconds since 1970.
pub fn write<W: Write + Send>(
    lower: &[Mount],
    upper: &[Mount],
    scratch: &Scratch,
    latest: Option<i64>,
    to: W,
) -> Result<W, Status> {
    let (lower, upper) = (View::of(lower)?, View::of(upper)?);
    let guides = guides(&lower, &upper);
    view::both(&lower, &upper, scratch, |below, above| between(below, above, &guides, latest, to))
}

/// Writes what the tree `above` has and the tree `below` has not.
pub fn between<W: Write>(below: &Path, above: &Path, guides: &Guides, latest: Option<i64>, to: W) -> Result<W, Status> {
    let mut changes = Changes::open(below, above, LayerWriter::new(to, latest))?;
    changes.walk(guides)?;
    changes.finish()
}

/// Where one stack of layers stands on the whole other one, only the layers that it adds need to be walked.
fn guides(lower: &View, upper: &View) -> Guides {
    let (Some(lower), Some(upper)) = (&lower.layers, &upper.layers) else { return Guides::None };
    match upper.strip_suffix(lower.as_slice()) {
        Some(added) if !lower.is_empty() => Guides::Layers(added.iter().map(PathBuf::from).collect()),
        _ => Guides::None,
    }
}
