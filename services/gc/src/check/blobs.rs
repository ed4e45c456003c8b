//! The blob files.

use berth_model::Status;
use berth_wire::{
    content::{CheckBlobsRequest, ListBlobsRequest, check_blobs_reply::Fault},
    convert,
    gc::item::Outcome,
};

use super::Checking;

impl Checking<'_> {
    /// Looks at all blobs, and learns which there are.
    pub(super) async fn blobs(&mut self) -> Result<(), Status> {
        let (deep, repair) = (self.wanted.deep, self.wanted.repair);
        let mut after = String::new();
        loop {
            let page = self.backend.content.check_blobs(CheckBlobsRequest { after, deep, repair }).await?;
            self.report.count(|summary| {
                summary.checked += page.checked;
                summary.read_bytes += page.read;
            });
            for finding in page.findings {
                let digest = convert::digest(&finding.digest)?;
                match finding.fault() {
                    // It is a blob all the same; only nobody had written that down.
                    Fault::NoRecord => {
                        let outcome = if finding.repaired { Outcome::Mended } else { Outcome::Damaged };
                        self.tell(outcome, "", "blobs", &finding.digest, finding.detail);
                    }
                    _ => drop(self.lost.insert(digest, finding.detail)),
                }
            }
            if page.next.is_empty() {
                break;
            }
            after = page.next;
        }
        self.list_present().await
    }

    async fn list_present(&mut self) -> Result<(), Status> {
        let mut after = String::new();
        loop {
            let page = self.backend.content.list_blobs(ListBlobsRequest { after, limit: 0 }).await?;
            let last = page.blobs.last().map(|blob| blob.digest.clone());
            for blob in page.blobs {
                let digest = convert::digest(&blob.digest)?;
                if !self.lost.contains_key(&digest) {
                    self.present.insert(digest, blob.size);
                }
            }
            match last.filter(|_| page.more) {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }
}
