//! The rules of content records: a put creates a record or merges labels into it.
//!
//! Unlike an image, a record that a put leaves as it is keeps its `updated_at` and costs no write: a re-pull puts every
//! blob of an image again.

use berth_model::{Digest, Status, labels, labels::Labels};
use berth_wire::{metadata as msg, types};
use msg::put_content_request::Entry;

use crate::{change::Change, check, collection::Node, condemnation, event::Fact, mask, missing, tables::content};

/// An entry whose fields were checked.
pub(crate) struct Put {
    digest: Digest,
    entry: Entry,
}

impl Put {
    /// Checks the fields.
    pub(crate) fn parse(entry: Entry) -> Result<Self, Status> {
        let digest = check::digest(&entry.digest)?;
        let checked = || {
            check::labels(&entry.labels)?;
            check::at_most("the media type", &entry.media_type)?;
            let source = Labels::from([(entry.source_key.clone(), entry.source_repository.clone())]);
            match (entry.source_key.is_empty(), entry.source_repository.is_empty()) {
                (true, true) => Ok(()),
                (false, false) => check::labels(&source),
                _ => Err(Status::invalid_argument("source_key and source_repository come together")),
            }
        };
        checked().map_err(|status: Status| status.context(format!("content {digest}")))?;
        Ok(Self { digest, entry })
    }

    /// What is stored, given what is there; none if that stays as it is.
    fn decide(&self, present: Option<&msg::Content>, now: types::Time) -> Result<Option<msg::Content>, Status> {
        let Self { digest, entry } = self;
        if let Some(present) = present
            && entry.size != 0
            && entry.size != present.size
        {
            return Err(Status::invalid_argument(format!(
                "content {digest} is recorded with {} bytes and cannot have {}",
                present.size, entry.size
            )));
        }
        let mut merged = present.map(|present| present.labels.clone()).unwrap_or_default();
        labels::merge(&mut merged, &entry.labels);
        if !entry.source_key.is_empty() {
            let before = merged.get(&entry.source_key).map(String::as_str).unwrap_or_default();
            let after = labels::add_source(&entry.source_key, before, &entry.source_repository);
            if !after.is_empty() {
                merged.insert(entry.source_key.clone(), after);
            }
        }
        match present {
            Some(present) if present.labels == merged => return Ok(None),
            _ => check::labels(&merged).map_err(|status| status.context(format!("content {digest}")))?,
        }
        Ok(Some(msg::Content {
            digest: digest.to_string(),
            size: present.map_or(entry.size, |present| present.size),
            labels: merged,
            created_at: Some(present.and_then(|present| present.created_at).unwrap_or(now)),
            updated_at: Some(now),
        }))
    }
}

/// Records blobs, all of them or none.
pub(crate) fn put(change: &mut Change<'_, '_>, namespace: &str, puts: &[Put]) -> Result<(), Status> {
    if puts.is_empty() {
        return Ok(());
    }
    change.touch_namespace(namespace)?;
    for put in puts {
        condemnation::refuse_condemned(change, &put.digest)?;
        change.keeps(|| Some(Node::content(namespace, put.digest)));
        let present = content::get(change.txn(), namespace, &put.digest)?;
        if let Some(stored) = put.decide(present.as_ref(), change.now())? {
            content::put(change.txn(), namespace, &put.digest, &stored);
            if present.is_none() {
                let media_type = put.entry.media_type.clone();
                let fact = Fact::ContentCreated { digest: stored.digest, size: stored.size, media_type };
                change.report(namespace, &fact);
            }
        }
    }
    Ok(())
}

/// Changes labels as the paths say.
pub(crate) fn update(
    change: &mut Change<'_, '_>,
    namespace: &str,
    digest: &Digest,
    labels: &Labels,
    paths: &[String],
) -> Result<msg::Content, Status> {
    let mut stored = content::get(change.txn(), namespace, digest)?
        .ok_or_else(|| missing::content(namespace, &digest.to_string()))?;
    mask::labels(&mut stored.labels, labels, paths, "content")?;
    check::labels(&stored.labels).map_err(|status| status.context(format!("content {digest}")))?;
    stored.updated_at = Some(change.now());
    change.keeps(|| Some(Node::content(namespace, *digest)));
    content::put(change.txn(), namespace, digest, &stored);
    Ok(stored)
}

/// Drops a record.
pub(crate) fn delete(change: &mut Change<'_, '_>, namespace: &str, digest: &Digest) -> Result<(), Status> {
    if content::get(change.txn(), namespace, digest)?.is_none() {
        return Err(missing::content(namespace, &digest.to_string()));
    }
    content::delete(change.txn(), namespace, digest);
    change.frees();
    change.report(namespace, &Fact::ContentDeleted { digest: digest.to_string() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_model::Code;

    use super::*;

    const THEN: types::Time = types::Time { seconds: 1, nanos: 0 };
    const NOW: types::Time = types::Time { seconds: 2, nanos: 0 };

    fn labels_of(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn put(size: u64, labels: &[(&str, &str)], source: (&str, &str)) -> Put {
        Put::parse(Entry {
            digest: Digest::of(b"x").to_string(),
            size,
            labels: labels_of(labels),
            source_key: source.0.into(),
            source_repository: source.1.into(),
            ..Entry::default()
        })
        .unwrap()
    }

    fn present(labels: &[(&str, &str)]) -> msg::Content {
        msg::Content {
            digest: Digest::of(b"x").to_string(),
            size: 5,
            labels: labels_of(labels),
            created_at: Some(THEN),
            updated_at: Some(THEN),
        }
    }

    #[test]
    fn a_new_record_leaves_empty_labels_out() {
        let stored = put(5, &[("a", "1"), ("b", "")], ("s", "r")).decide(None, NOW).unwrap().unwrap();
        assert_eq!(stored.labels, labels_of(&[("a", "1"), ("s", "r")]));
        assert_eq!((stored.size, stored.created_at, stored.updated_at), (5, Some(NOW), Some(NOW)));
    }

    #[test]
    fn labels_and_sources_are_merged() {
        let present = present(&[("a", "1"), ("b", "2"), ("s", "y")]);
        let stored = put(0, &[("a", ""), ("c", "3")], ("s", "x")).decide(Some(&present), NOW).unwrap().unwrap();
        assert_eq!(stored.labels, labels_of(&[("b", "2"), ("c", "3"), ("s", "x,y")]));
        assert_eq!((stored.size, stored.created_at, stored.updated_at), (5, Some(THEN), Some(NOW)));
    }

    #[test]
    fn what_changes_nothing_is_not_written() {
        let present = present(&[("a", "1"), ("s", "x,y")]);
        assert_eq!(put(5, &[("a", "1"), ("b", "")], ("s", "x")).decide(Some(&present), NOW).unwrap(), None);
    }

    #[test]
    fn a_digest_has_one_size() {
        let status = put(6, &[], ("", "")).decide(Some(&present(&[])), NOW).unwrap_err();
        assert_eq!(status.code, Code::InvalidArgument);
    }

    #[test]
    fn half_a_source_is_refused() {
        let entry = Entry { digest: Digest::of(b"x").to_string(), source_key: "k".into(), ..Entry::default() };
        assert_eq!(Put::parse(entry).err().unwrap().code, Code::InvalidArgument);
    }
}
