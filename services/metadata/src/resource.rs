//! What a lease can name: `content`, `ingests`, `images`, `snapshots/NAME`. Nothing else is offered, as in containerd.

use berth_model::Status;
use berth_wire::metadata as msg;

use crate::check;

/// The resource type of blobs; its ids are digests.
pub(crate) const CONTENT: &str = "content";
/// The resource type of ingests; its ids are refs.
pub(crate) const INGESTS: &str = "ingests";
const PLAIN: &[&str] = &[CONTENT, INGESTS, "images"];
const SNAPSHOTS: &str = "snapshots";

/// The resource type of the snapshots of one snapshotter.
pub(crate) fn snapshots_of(snapshotter: &str) -> String {
    format!("{SNAPSHOTS}/{snapshotter}")
}

/// A resource as it is stored: the type is known and a digest is in its one spelling.
pub(crate) fn parse(resource: &msg::Resource) -> Result<msg::Resource, Status> {
    let msg::Resource { r#type, id } = resource;
    match r#type.split_once('/') {
        None if PLAIN.contains(&r#type.as_str()) => {}
        None if r#type == SNAPSHOTS => {
            return Err(Status::invalid_argument("resource type \"snapshots\" needs a snapshotter: snapshots/NAME"));
        }
        Some((SNAPSHOTS, snapshotter)) => {
            if snapshotter.is_empty() || snapshotter.contains('/') {
                return Err(Status::invalid_argument(format!(
                    "resource type {:?} is not snapshots/NAME",
                    short(r#type)
                )));
            }
            check::at_most("the resource type", r#type)?;
        }
        _ => {
            return Err(Status::unimplemented(format!(
                "a lease cannot name a resource of type {:?}: content, ingests, images and snapshots/NAME are known",
                short(r#type)
            )));
        }
    }
    check::name("the resource id", id)?;
    let id = if r#type == CONTENT { check::digest(id)?.to_string() } else { id.clone() };
    Ok(msg::Resource { r#type: r#type.clone(), id })
}

fn short(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use berth_model::{Code, Digest};

    use super::*;

    #[test]
    fn types_as_a_table() {
        let digest = Digest::of(b"x").to_string();
        for (r#type, id, expected) in [
            ("content", digest.as_str(), None),
            ("content", "sha256:zz", Some(Code::InvalidArgument)),
            ("content", "", Some(Code::InvalidArgument)),
            ("ingests", "layer-x", None),
            ("images", "docker.io/library/a:b", None),
            ("snapshots/overlay", "key", None),
            ("snapshots", "key", Some(Code::InvalidArgument)),
            ("snapshots/", "key", Some(Code::InvalidArgument)),
            ("snapshots/a/b", "key", Some(Code::InvalidArgument)),
            ("containers", "x", Some(Code::Unimplemented)),
            ("content/x", "x", Some(Code::Unimplemented)),
            ("", "x", Some(Code::Unimplemented)),
        ] {
            let found = parse(&msg::Resource { r#type: r#type.into(), id: id.into() });
            assert_eq!(found.err().map(|status| status.code), expected, "{type} {id}");
        }
    }
}
