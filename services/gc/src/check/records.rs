//! Content records: each needs its bytes.

use berth_model::Status;
use berth_wire::{
    convert,
    gc::item::Outcome,
    metadata::{Content, ListContentRequest, ListNamespacesRequest},
};

use super::{Checking, sources};
use crate::collect::Backend;

/// The names of all namespaces.
pub(super) async fn namespaces(backend: &Backend) -> Result<Vec<String>, Status> {
    let mut names: Vec<String> = Vec::new();
    loop {
        let after = names.last().cloned().unwrap_or_default();
        let request = ListNamespacesRequest { after, ..ListNamespacesRequest::default() };
        let page = backend.metadata.list_namespaces(request).await?;
        names.extend(page.namespaces.into_iter().map(|namespace| namespace.name));
        if !page.more {
            return Ok(names);
        }
    }
}

impl Checking<'_> {
    /// Looks at all content records of a namespace. What images need was looked at before, with better sources.
    pub(super) async fn records(&mut self, namespace: &str) -> Result<(), Status> {
        let mut after = String::new();
        loop {
            let request =
                ListContentRequest { namespace: namespace.to_owned(), after, ..ListContentRequest::default() };
            let page = self.backend.metadata.list_content(request).await?;
            let last = page.contents.last().map(|content| content.digest.clone());
            self.report.count(|summary| summary.checked += page.contents.len() as u64);
            for content in page.contents {
                self.record(namespace, &content).await?;
            }
            match last.filter(|_| page.more) {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    async fn record(&mut self, namespace: &str, content: &Content) -> Result<(), Status> {
        let digest = convert::digest(&content.digest)?;
        match self.present.get(&digest) {
            Some(size) if *size == content.size => Ok(()),
            Some(size) => {
                let note = format!("{} bytes are recorded, and the blob has {size}", content.size);
                self.tell(Outcome::Damaged, namespace, "content", &content.digest, note);
                Ok(())
            }
            None => {
                let descriptor = sources::unknown_kind(digest, content.size);
                let from = sources::of_labels(&content.labels);
                self.ensure(namespace, &descriptor, &from).await.map(drop)
            }
        }
    }
}
