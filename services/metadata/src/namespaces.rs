//! The rules of namespaces: one is made or comes into being, and ends when nothing is in it.
//!
//! As in containerd, leases do not keep a namespace: they go with it. What they named is not there any more, or the
//! namespace would not be empty.

use berth_kv::Reader;
use berth_model::{Status, labels::Labels};
use berth_wire::metadata as msg;

use crate::{
    change::Change,
    check,
    event::Fact,
    leases, mask,
    page::Page,
    tables::{container, content, image, lease, namespace, snapshot},
};

/// One that is not there has no labels.
pub(crate) fn get(from: &impl Reader, name: &str) -> Result<msg::Namespace, Status> {
    let unknown = || msg::Namespace { name: name.to_owned(), labels: Labels::new() };
    Ok(namespace::get(from, name)?.unwrap_or_else(unknown))
}

/// Makes one.
pub(crate) fn create(change: &mut Change<'_, '_>, name: &str, labels: &Labels) -> Result<msg::Namespace, Status> {
    if namespace::is_known(change.txn(), name)? {
        return Err(Status::already_exists(format!("namespace {name:?} already exists")));
    }
    change.touch_namespace(name)?;
    let labels = mask::whole(labels);
    namespace::put(change.txn(), name, &labels);
    change.report(name, &Fact::NamespaceCreated { name: name.to_owned(), labels: labels.clone() });
    Ok(msg::Namespace { name: name.to_owned(), labels })
}

/// Changes labels as the paths say.
pub(crate) fn update(
    change: &mut Change<'_, '_>,
    name: &str,
    labels: &Labels,
    paths: &[String],
) -> Result<msg::Namespace, Status> {
    let mut stored = get(change.txn(), name)?;
    mask::labels(&mut stored.labels, labels, paths, "a namespace")?;
    check::labels(&stored.labels)?;
    change.touch_namespace(name)?;
    namespace::put(change.txn(), name, &stored.labels);
    change.report(name, &Fact::NamespaceUpdated { name: name.to_owned(), labels: stored.labels.clone() });
    Ok(stored)
}

/// Ends an empty one.
pub(crate) fn delete(change: &mut Change<'_, '_>, name: &str) -> Result<(), Status> {
    if !namespace::is_known(change.txn(), name)? {
        return Err(Status::not_found(format!("namespace {name:?} not found")));
    }
    let left = left_in(change.txn(), name)?;
    if !left.is_empty() {
        return Err(Status::failed_precondition(format!(
            "namespace {name:?} must be empty, but it still has {}",
            left.join(", ")
        )));
    }
    loop {
        let mut page = Page::new(0);
        lease::fill(change.txn(), name, "", &mut page)?;
        let (ended, more) = page.finish();
        for lease in ended {
            leases::delete(change, name, &lease.id)?;
        }
        if !more {
            break;
        }
    }
    namespace::delete(change.txn(), name);
    change.report(name, &Fact::NamespaceDeleted { name: name.to_owned() });
    Ok(())
}

/// What is in it, each kind with an example.
fn left_in(from: &impl Reader, name: &str) -> Result<Vec<String>, Status> {
    let mut left = Vec::new();
    let (mut images, mut blobs, mut containers) = (Page::new(1), Page::new(1), Page::new(1));
    image::fill(from, name, "", &mut images)?;
    content::fill(from, name, None, &mut blobs)?;
    container::fill(from, name, "", &mut containers)?;
    left.extend(images.finish().0.pop().map(|image| format!("images ({})", image.name)));
    left.extend(blobs.finish().0.pop().map(|blob| format!("blobs ({})", blob.digest)));
    left.extend(containers.finish().0.pop().map(|container| format!("containers ({})", container.id)));
    if let Some((snapshotter, key)) = snapshot::any_in(from, name)? {
        left.push(format!("snapshots on {snapshotter:?} snapshotter ({key})"));
    }
    Ok(left)
}
