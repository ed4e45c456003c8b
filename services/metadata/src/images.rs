//! The rules of images: what a put does to what is there.
//!
//! Every put counts as an update, also one that changes nothing: it sets `updated_at` and is reported. containerd does
//! so, and whoever watches a re-pull learns that it ended. Times in
//! the record a client sends are ignored; the time of the whole request is not.

use std::collections::BTreeMap;

use berth_model::Status;
use berth_wire::{metadata as msg, types};
use msg::put_image_request::Mode;

use crate::{change::Change, check, collection::Node, event::Fact, mask, missing, tables::image};

/// A put whose fields were checked.
pub(crate) struct Put {
    image: msg::Image,
    mode: Mode,
    at: Option<types::Time>,
}

impl Put {
    /// Checks the fields.
    pub(crate) fn parse(request: msg::PutImageRequest) -> Result<Self, Status> {
        let mode = Mode::try_from(request.mode)
            .map_err(|error| Status::invalid_argument(format!("the mode of a put image: {error}")))?;
        let image = request.image.ok_or_else(|| Status::invalid_argument("image is missing in the request"))?;
        let name = check::name("the image's name", &image.name)?;
        check::labels(&image.labels)?;
        let target = check::target(image.target.as_ref())?;
        let labels = mask::whole(&image.labels);
        let image = msg::Image { name, labels, target: Some(target), created_at: None, updated_at: None };
        Ok(Self { image, mode, at: request.at })
    }

    /// What is stored, given what is there.
    fn decide(
        self,
        namespace: &str,
        present: Option<&msg::Image>,
        now: types::Time,
    ) -> Result<(msg::Image, Fact), Status> {
        let Self { mut image, mode, at } = self;
        let now = at.unwrap_or(now);
        let name = image.name.clone();
        match (mode, present) {
            (Mode::Create, Some(_)) => {
                return Err(Status::already_exists(format!(
                    "image {name:?} in namespace {namespace:?} already exists"
                )));
            }
            (Mode::Update, None) => return Err(missing::image(namespace, &name)),
            _ => {}
        }
        image.created_at = Some(present.and_then(|present| present.created_at).unwrap_or(now));
        image.updated_at = Some(now);
        let labels = image.labels.clone();
        let fact = match present {
            None => Fact::ImageCreated { name, labels },
            Some(_) => Fact::ImageUpdated { name, labels },
        };
        Ok((image, fact))
    }
}

/// Creates or replaces.
pub(crate) fn put(change: &mut Change<'_, '_>, namespace: &str, put: Put) -> Result<msg::Image, Status> {
    let present = image::get(change.txn(), namespace, &put.image.name)?;
    let points_to = |image: &msg::Image| image.target.as_ref().map(|target| target.digest.clone());
    let (stored, fact) = put.decide(namespace, present.as_ref(), change.now())?;
    change.touch_namespace(namespace)?;
    change.keeps(|| Some(Node::image(namespace, &stored.name)));
    image::put(change.txn(), namespace, &stored);
    if present.is_some_and(|present| points_to(&present) != points_to(&stored)) {
        change.frees();
    }
    change.report(namespace, &fact);
    Ok(stored)
}

/// Changes fields as the paths say.
pub(crate) fn update(
    change: &mut Change<'_, '_>,
    namespace: &str,
    given: msg::Image,
    paths: &[String],
    at: Option<types::Time>,
) -> Result<msg::Image, Status> {
    let present =
        image::get(change.txn(), namespace, &given.name)?.ok_or_else(|| missing::image(namespace, &given.name))?;
    let mut stored = masked(present, given, paths)?;
    check::labels(&stored.labels)?;
    stored.target = Some(check::target(stored.target.as_ref())?);
    stored.updated_at = at.or(Some(change.now()));
    change.keeps(|| Some(Node::image(namespace, &stored.name)));
    image::put(change.txn(), namespace, &stored);
    let fact = Fact::ImageUpdated { name: stored.name.clone(), labels: stored.labels.clone() };
    change.report(namespace, &fact);
    Ok(stored)
}

fn masked(mut into: msg::Image, given: msg::Image, paths: &[String]) -> Result<msg::Image, Status> {
    if paths.is_empty() {
        into.labels = mask::whole(&given.labels);
        into.target = given.target;
        return Ok(into);
    }
    let nothing = BTreeMap::new();
    let annotations = given.target.as_ref().map_or(&nothing, |target| &target.annotations);
    for path in paths {
        if let Some(key) = mask::key_of(path, "labels") {
            mask::set_one(&mut into.labels, key, &given.labels);
        } else if let Some(key) = mask::key_of(path, "annotations") {
            mask::set_one(&mut into.target.get_or_insert_default().annotations, key, annotations);
        } else {
            match path.as_str() {
                "labels" => into.labels = mask::whole(&given.labels),
                "target" => into.target.clone_from(&given.target),
                "annotations" => into.target.get_or_insert_default().annotations.clone_from(annotations),
                _ => return Err(mask::unknown(path, "an image")),
            }
        }
    }
    Ok(into)
}

/// Drops; with `target` only if that is still its digest.
pub(crate) fn delete(
    change: &mut Change<'_, '_>,
    namespace: &str,
    name: &str,
    target: Option<&str>,
) -> Result<(), Status> {
    let present = image::get(change.txn(), namespace, name)?.ok_or_else(|| missing::image(namespace, name))?;
    let points_to = present.target.map(|target| target.digest).unwrap_or_default();
    if let Some(target) = target
        && target != points_to
    {
        return Err(Status::not_found(format!(
            "image {name:?} in namespace {namespace:?} with target {target} not found: it points to {points_to}"
        )));
    }
    image::delete(change.txn(), namespace, name);
    change.frees();
    change.report(namespace, &Fact::ImageDeleted { name: name.to_owned() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_model::{Code, Digest};

    use super::*;

    fn request(mode: Mode) -> msg::PutImageRequest {
        let target = types::Descriptor {
            media_type: "m".into(),
            digest: Digest::of(b"x").to_string(),
            size: 1,
            ..types::Descriptor::default()
        };
        let image = msg::Image { name: "n".into(), target: Some(target), ..msg::Image::default() };
        msg::PutImageRequest {
            namespace: "default".into(),
            image: Some(image),
            mode: mode.into(),
            lease: String::new(),
            at: None,
        }
    }

    #[test]
    fn modes_as_a_table() {
        let then = types::Time { seconds: 1, nanos: 0 };
        let now = types::Time { seconds: 2, nanos: 0 };
        let present = msg::Image { name: "n".into(), created_at: Some(then), ..msg::Image::default() };
        for (mode, there, expected) in [
            (Mode::Upsert, false, Ok((now, "/images/create"))),
            (Mode::Upsert, true, Ok((then, "/images/update"))),
            (Mode::Create, false, Ok((now, "/images/create"))),
            (Mode::Create, true, Err(Code::AlreadyExists)),
            (Mode::Update, false, Err(Code::NotFound)),
            (Mode::Update, true, Ok((then, "/images/update"))),
        ] {
            let put = Put::parse(request(mode)).unwrap();
            let found = put.decide("default", there.then_some(&present), now);
            let found = found.map(|(image, fact)| {
                assert_eq!(image.updated_at, Some(now));
                (image.created_at.unwrap(), fact.topic())
            });
            assert_eq!(found.map_err(|status| status.code), expected, "{mode:?} {there}");
        }
    }

    #[test]
    fn masks_as_a_table() {
        let image = |label: &str, annotation: &str, size: u64| {
            let of = |value: &str| BTreeMap::from([("k.x/y".to_owned(), value.to_owned())]);
            let target = types::Descriptor { size, annotations: of(annotation), ..types::Descriptor::default() };
            msg::Image { name: "n".into(), labels: of(label), target: Some(target), ..msg::Image::default() }
        };
        let (before, given) = (image("1", "2", 3), image("4", "5", 6));
        for (paths, expected) in [
            (&[][..], Some(image("4", "5", 6))),
            (&["labels"], Some(image("4", "2", 3))),
            (&["labels.k.x/y"], Some(image("4", "2", 3))),
            (&["target"], Some(image("1", "5", 6))),
            (&["annotations"], Some(image("1", "5", 3))),
            (&["annotations.k.x/y", "labels"], Some(image("4", "5", 3))),
            (&["name"], None),
            (&["created_at"], None),
            (&["target.size"], None),
        ] {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            assert_eq!(masked(before.clone(), given.clone(), &paths).ok(), expected, "{paths:?}");
        }
    }

    #[test]
    fn an_unknown_mode_is_refused() {
        let request = msg::PutImageRequest { mode: 9, ..request(Mode::Upsert) };
        assert_eq!(Put::parse(request).err().unwrap().code, Code::InvalidArgument);
    }
}
