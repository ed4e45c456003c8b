//! What a word of the user names, and what keeps that.

use berth_model::{Code, Digest, Reference, Status};
use berth_wire::{
    gc::{WhyReply, WhyRequest},
    metadata::{ExplainReply, ExplainRequest},
};

use crate::collect::Backend;

/// Explains. A digest may be a blob or a snapshot (its chain id); any other word an image or a snapshot.
pub(crate) async fn why(backend: &Backend, request: WhyRequest) -> Result<WhyReply, Status> {
    let WhyRequest { namespace, subject, snapshotter } = request;
    let snapshots = format!("snapshots/{snapshotter}");
    let mut candidates: Vec<(String, String)> = Vec::new();
    if subject.parse::<Digest>().is_ok() {
        candidates.push(("content".into(), subject.clone()));
    } else {
        candidates.push(("images".into(), subject.clone()));
        if let Ok(reference) = subject.parse::<Reference>()
            && reference.to_string() != subject
        {
            candidates.push(("images".into(), reference.to_string()));
        }
    }
    if !snapshotter.is_empty() {
        candidates.push((snapshots, subject.clone()));
    }
    let mut elsewhere: Option<WhyReply> = None;
    for (r#type, id) in candidates {
        let asked = ExplainRequest { namespace: namespace.clone(), r#type: r#type.clone(), id: id.clone() };
        let explained: ExplainReply = match backend.metadata.explain(asked).await {
            Ok(explained) => explained,
            Err(status) if status.code == Code::InvalidArgument => continue,
            Err(status) => return Err(status),
        };
        let reply = WhyReply { r#type, id, explained: Some(explained.clone()) };
        if explained.exists {
            return Ok(reply);
        }
        // Named by a lease or by a reference, or in another namespace: worth telling, if nothing is here.
        if !explained.chain.is_empty() || !explained.also_in.is_empty() {
            elsewhere.get_or_insert(reply);
        }
    }
    elsewhere.ok_or_else(|| {
        Status::not_found(format!(
            "there is no image, content or snapshot {subject:?} in namespace {namespace:?}; see `berth images ls`, \
             `berth content ls`, `berth snapshots ls`"
        ))
    })
}
