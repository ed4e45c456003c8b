//! How much is in flight at once, of each kind of job, for all pulls together.
//!
//! The workers' queues take jobs as they come; so what is fair is decided here, by handing them no more than they can begin
//! soon. Documents never wait behind layers, nor small layers behind large ones, which go through the workers' own narrow
//! gate (`large_downloads` of the fetcher).

use std::cmp::Reverse;

use berth_model::{Descriptor, Kind};
use berth_wire::job::SMALL_LAYER;

use crate::{
    prepared::Prepared,
    slots::{Equals, Slots},
};

/// So many jobs of each kind at once.
#[derive(Clone, Copy, Debug)]
pub struct InFlight {
    /// Manifests, configs, and what turns out to be there.
    pub documents: usize,
    /// Layers smaller than `large_bytes`.
    pub small: usize,
    /// The other layers.
    pub large: usize,
    /// Layers being unpacked.
    pub unpacks: usize,
    /// The same of tiny ones, beside those: they mostly wait for the disk, and unpackers take more of them at once.
    pub tiny_unpacks: usize,
    /// From so many bytes on a blob is large.
    pub large_bytes: u64,
}

impl Default for InFlight {
    /// For four fetchers and four unpackers with their own defaults.
    fn default() -> Self {
        Self { documents: 64, small: 128, large: 32, unpacks: 32, tiny_unpacks: 64, large_bytes: 1 << 20 }
    }
}

impl InFlight {
    /// For the workers of one process: as many as they do at once.
    #[must_use]
    pub fn for_workers(fetch_jobs: usize, large_downloads: usize, unpack_jobs: usize) -> Self {
        let (documents, large) = (fetch_jobs / 4, large_downloads.min(fetch_jobs / 4));
        Self {
            documents: documents.max(1),
            small: fetch_jobs.saturating_sub(documents + large).max(1),
            large: large.max(1),
            unpacks: unpack_jobs.max(1),
            tiny_unpacks: unpack_jobs.saturating_mul(3).max(1),
            ..Self::default()
        }
    }
}

/// Whether a layer is tiny: its unpacking takes no time beside its fetching, so it begins when that is over, and no place is
/// taken by one that waits for its blob to be on disk.
pub(crate) fn is_tiny(layer: &Descriptor) -> bool {
    layer.size <= SMALL_LAYER
}

/// The places of one transfer service.
pub(crate) struct Work {
    documents: Slots,
    small: Slots,
    large: Slots,
    unpacks: Slots,
    tiny_unpacks: Slots,
    large_bytes: u64,
    pub(crate) fetching: Equals,
    pub(crate) unpacking: Equals,
    pub(crate) prepared: Prepared,
}

impl Work {
    pub(crate) fn new(limits: InFlight) -> Self {
        Self {
            documents: Slots::new(limits.documents),
            small: Slots::new(limits.small),
            large: Slots::new(limits.large),
            unpacks: Slots::new(limits.unpacks),
            tiny_unpacks: Slots::new(limits.tiny_unpacks),
            large_bytes: limits.large_bytes,
            fetching: Equals::default(),
            unpacking: Equals::default(),
            prepared: Prepared::default(),
        }
    }

    /// Where a blob's fetching waits; `there`: it was fetched a moment ago.
    pub(crate) fn fetches(&self, descriptor: &Descriptor, there: bool) -> &Slots {
        match descriptor.media_type.kind() {
            _ if there => &self.documents,
            Kind::Index | Kind::Manifest | Kind::Config => &self.documents,
            _ if descriptor.size < self.large_bytes => &self.small,
            _ => &self.large,
        }
    }

    /// Layers with their positions, as they are to be asked for: of the large ones the largest first, which is what a pull
    /// waits for in the end; the small ones from the bottom up, as they are committed.
    pub(crate) fn order<'a>(&self, layers: &'a [Descriptor]) -> Vec<(usize, &'a Descriptor)> {
        let mut order: Vec<_> = layers.iter().enumerate().collect();
        order.sort_by_key(|(_, layer)| Reverse(Some(layer.size).filter(|size| *size >= self.large_bytes)));
        order
    }

    /// Where a layer's unpacking waits.
    pub(crate) fn unpacks(&self, layer: &Descriptor) -> &Slots {
        if is_tiny(layer) { &self.tiny_unpacks } else { &self.unpacks }
    }
}

#[cfg(test)]
mod tests {
    use berth_model::Digest;

    use super::*;

    #[test]
    fn large_layers_come_by_size_and_small_ones_as_they_lie() {
        let work = Work::new(InFlight { large_bytes: 100, ..InFlight::default() });
        let layers = [5, 100, 7, 300, 200, 300, 6]
            .map(|size| Descriptor::new("application/vnd.oci.image.layer.v1.tar", Digest::of(b""), size));
        let order: Vec<_> = work.order(&layers).into_iter().map(|(position, _)| position).collect();
        assert_eq!(order, [3, 5, 4, 1, 0, 2, 6]);
    }
}
