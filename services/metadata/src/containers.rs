//! The rules of containers: what a record must have, and what of it may change. Whether a container runs is not known here.

use std::collections::BTreeMap;

use berth_model::{Identifier, Status};
use berth_wire::metadata as msg;

use crate::{change::Change, check, collection::Node, event::Fact, mask, missing, tables::container};

/// All of a container together: a record and its event must fit the bus.
const MAX_BYTES: usize = 640 * 1024;

/// Checks the fields.
pub(crate) fn parse(container: Option<msg::Container>) -> Result<msg::Container, Status> {
    let container = container.ok_or_else(|| Status::invalid_argument("container is missing in the request"))?;
    let id: Result<Identifier, _> = container.id.parse();
    id.map_err(|error| Status::invalid_argument(error.to_string()).context("the container's id"))?;
    Ok(container)
}

/// What every stored container is.
fn checked(container: &msg::Container) -> Result<(), Status> {
    let refuse = |what: String| Err(Status::invalid_argument(format!("container {:?}: {what}", container.id)));
    check::labels(&container.labels)?;
    for (what, text) in [
        ("the image", &container.image),
        ("the runtime's name", &container.runtime),
        ("the snapshot key", &container.snapshot_key),
        ("the sandbox", &container.sandbox),
    ] {
        check::at_most(what, text)?;
    }
    if container.snapshotter.contains('/') {
        return refuse(format!("snapshotter {:?} must not contain '/'", container.snapshotter));
    }
    if container.runtime.is_empty() {
        return refuse("the runtime's name must be set".to_owned());
    }
    if container.spec.is_none() {
        return refuse("the spec must be set".to_owned());
    }
    if !container.snapshot_key.is_empty() && container.snapshotter.is_empty() {
        return refuse("a snapshot key needs a snapshotter".to_owned());
    }
    let nameless = |(key, value): (&String, &msg::Payload)| key.is_empty() || value.type_url.is_empty();
    if container.extensions.iter().any(nameless) {
        return refuse("an extension needs a name and a type".to_owned());
    }
    let bytes = prost::Message::encoded_len(container);
    if bytes > MAX_BYTES {
        return refuse(format!("it takes {bytes} bytes, at most {MAX_BYTES} are allowed"));
    }
    Ok(())
}

/// Records one.
pub(crate) fn create(
    change: &mut Change<'_, '_>,
    namespace: &str,
    given: msg::Container,
) -> Result<msg::Container, Status> {
    if container::get(change.txn(), namespace, &given.id)?.is_some() {
        return Err(Status::already_exists(format!(
            "container {:?} in namespace {namespace:?} already exists",
            given.id
        )));
    }
    let now = Some(change.now());
    let stored = msg::Container { labels: mask::whole(&given.labels), created_at: now, updated_at: now, ..given };
    checked(&stored)?;
    change.touch_namespace(namespace)?;
    let (id, image, runtime) = (stored.id.clone(), stored.image.clone(), stored.runtime.clone());
    put(change, namespace, &stored);
    change.report(namespace, &Fact::ContainerCreated { id, image, runtime });
    Ok(stored)
}

/// Changes fields as the paths say.
pub(crate) fn update(
    change: &mut Change<'_, '_>,
    namespace: &str,
    given: msg::Container,
    paths: &[String],
) -> Result<msg::Container, Status> {
    let present =
        container::get(change.txn(), namespace, &given.id)?.ok_or_else(|| missing::container(namespace, &given.id))?;
    let mut stored = masked(present, given, paths)?;
    checked(&stored)?;
    stored.updated_at = Some(change.now());
    put(change, namespace, &stored);
    let msg::Container { id, image, labels, snapshot_key, .. } = stored.clone();
    change.report(namespace, &Fact::ContainerUpdated { id, image, labels, snapshot_key });
    Ok(stored)
}

/// Writes it; what it stands on is kept from here on.
fn put(change: &mut Change<'_, '_>, namespace: &str, stored: &msg::Container) {
    for kept in Node::of_container(namespace, stored) {
        change.keeps(|| Some(kept));
    }
    container::put(change.txn(), namespace, stored);
}

fn masked(mut into: msg::Container, given: msg::Container, paths: &[String]) -> Result<msg::Container, Status> {
    if paths.is_empty() {
        for (what, present, wanted) in
            [("snapshotter", &into.snapshotter, &given.snapshotter), ("runtime's name", &into.runtime, &given.runtime)]
        {
            if present != wanted {
                let id = &into.id;
                return Err(Status::invalid_argument(format!("container {id:?}: its {what} never changes")));
            }
        }
        return masked(into, given, &["labels", "spec", "extensions", "image", "snapshotkey"].map(str::to_owned));
    }
    for path in paths {
        if let Some(key) = mask::key_of(path, "labels") {
            mask::set_one(&mut into.labels, key, &given.labels);
        } else if let Some(key) = mask::key_of(path, "extensions") {
            set_extension(&mut into.extensions, key, &given.extensions);
        } else {
            match path.as_str() {
                "labels" => into.labels = mask::whole(&given.labels),
                "spec" => into.spec.clone_from(&given.spec),
                "extensions" => into.extensions.clone_from(&given.extensions),
                "image" => into.image.clone_from(&given.image),
                "snapshotkey" => into.snapshot_key.clone_from(&given.snapshot_key),
                _ => return Err(mask::unknown(path, "a container")),
            }
        }
    }
    Ok(into)
}

fn set_extension(into: &mut BTreeMap<String, msg::Payload>, key: &str, from: &BTreeMap<String, msg::Payload>) {
    match from.get(key) {
        Some(value) => drop(into.insert(key.to_owned(), value.clone())),
        None => drop(into.remove(key)),
    }
}

/// Drops one.
pub(crate) fn delete(change: &mut Change<'_, '_>, namespace: &str, id: &str) -> Result<(), Status> {
    if container::get(change.txn(), namespace, id)?.is_none() {
        return Err(missing::container(namespace, id));
    }
    container::delete(change.txn(), namespace, id);
    change.report(namespace, &Fact::ContainerDeleted { id: id.to_owned() });
    Ok(())
}
