//! What a request may say, checked before anything is read: names, labels, descriptors. The limits keep every record
//! and every event small enough to travel on the bus.

use berth_model::{Descriptor, Digest, Identifier, Status, labels, labels::Labels};
use berth_wire::{convert, types};

/// Longest name of an image, snapshot, lease or resource, in bytes.
pub(crate) const MAX_NAME_BYTES: usize = 4096;
/// All labels (or annotations) of one record together, in bytes of JSON. An index of 2000 manifests needs 240 KiB.
/// A list reply or an event with one such record still fits the bus's 1 MiB.
pub(crate) const MAX_LABELS_BYTES: usize = 256 * 1024;

/// A namespace.
pub(crate) fn namespace(text: &str) -> Result<String, Status> {
    match text.parse::<Identifier>() {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(error) => Err(Status::invalid_argument(error.to_string()).context("namespace")),
    }
}

/// A name that may not be empty; `what` is what it names.
pub(crate) fn name(what: &str, text: &str) -> Result<String, Status> {
    if text.is_empty() {
        return Err(Status::invalid_argument(format!("{what} must not be empty")));
    }
    at_most(what, text)?;
    Ok(text.to_owned())
}

/// A name that may be empty.
pub(crate) fn at_most(what: &str, text: &str) -> Result<(), Status> {
    if text.len() > MAX_NAME_BYTES {
        let long = text.len();
        return Err(Status::invalid_argument(format!(
            "{what} is {long} bytes long, at most {MAX_NAME_BYTES} are allowed"
        )));
    }
    Ok(())
}

/// The name of a snapshotter: one path part, since leases and labels spell it `snapshots/NAME`.
pub(crate) fn snapshotter(text: &str) -> Result<String, Status> {
    if text.contains('/') {
        return Err(Status::invalid_argument(format!("snapshotter {text:?} must not contain '/'")));
    }
    name("the snapshotter", text)
}

/// The digest of a request, in its one spelling.
pub(crate) fn digest(text: &str) -> Result<Digest, Status> {
    convert::digest(text)
}

/// The end of a condemnation, which says which one is meant.
pub(crate) fn until(time: Option<types::Time>) -> Result<types::Time, Status> {
    time.ok_or_else(|| Status::invalid_argument("until, the end of the condemnation that is meant, is missing"))
}

/// Labels as a record may have them.
pub(crate) fn labels(labels: &Labels) -> Result<(), Status> {
    labels::check(labels)?;
    whole(labels, "labels")
}

/// All of a map together. The estimate is cheap; only what may be too large is measured exactly.
fn whole(map: &Labels, what: &str) -> Result<(), Status> {
    const WORST_ESCAPE: usize = 6;
    let estimate: usize = map.iter().map(|(key, value)| (key.len() + value.len() + 1) * WORST_ESCAPE).sum();
    if estimate <= MAX_LABELS_BYTES {
        return Ok(());
    }
    let bytes = serde_json::to_vec(map).map_or(usize::MAX, |json| json.len());
    if bytes > MAX_LABELS_BYTES {
        return Err(Status::invalid_argument(format!(
            "the {what} take {bytes} bytes together, at most {MAX_LABELS_BYTES} are allowed"
        )));
    }
    Ok(())
}

/// The target of an image: digest, size and media type must all be there (as containerd's images service has it).
pub(crate) fn target(wire: Option<&types::Descriptor>) -> Result<types::Descriptor, Status> {
    let wire = convert::required(wire, "the image's target")?;
    let target = Descriptor::try_from(wire).map_err(|status| status.context("the image's target"))?;
    if target.size == 0 {
        return Err(Status::invalid_argument(format!("the image's target {} needs a size above 0", target.digest)));
    }
    if target.media_type.as_str().is_empty() {
        return Err(Status::invalid_argument(format!("the image's target {} needs a media type", target.digest)));
    }
    at_most("the media type of the image's target", target.media_type.as_str())?;
    whole(&target.annotations, "annotations of the image's target")?;
    Ok(wire.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_need_digest_size_and_type() {
        let good = types::Descriptor {
            media_type: "application/vnd.oci.image.index.v1+json".into(),
            digest: Digest::of(b"x").to_string(),
            size: 1,
            ..types::Descriptor::default()
        };
        assert_eq!(target(Some(&good)).unwrap(), good);
        for (bad, word) in [
            (None, "missing"),
            (Some(types::Descriptor { size: 0, ..good.clone() }), "size"),
            (Some(types::Descriptor { digest: "sha256:x".into(), ..good.clone() }), "digest"),
            (Some(types::Descriptor { media_type: String::new(), ..good.clone() }), "media type"),
        ] {
            let status = target(bad.as_ref()).unwrap_err();
            assert_eq!(status.code, berth_model::Code::InvalidArgument);
            assert!(status.message.contains(word), "{status}");
        }
    }

    #[test]
    fn all_labels_together_are_bounded() {
        let many = |n: usize| (0..n).map(|n| (format!("k{n}"), "v".repeat(4000))).collect::<Labels>();
        assert!(labels(&many(60)).is_ok());
        assert!(labels(&many(70)).is_err());
        let escaped = (0..70).map(|n| (format!("k{n}"), "\u{1}".repeat(1000))).collect::<Labels>();
        assert!(labels(&escaped).is_err(), "measured as the event spells them");
    }

    #[test]
    fn names_are_bounded_and_not_empty() {
        assert!(name("the key", "").unwrap_err().message.contains("the key"));
        assert!(name("the key", &"x".repeat(MAX_NAME_BYTES)).is_ok());
        assert!(name("the key", &"x".repeat(MAX_NAME_BYTES + 1)).is_err());
        assert!(snapshotter("a/b").is_err());
        assert!(namespace("a..b").unwrap_err().message.contains("namespace"));
    }
}
