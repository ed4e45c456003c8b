//! Owners of a snapshot as labels say them: `CONTAINER:HOST:SIZE`, several with commas between.

use berth_model::{Status, labels::Labels};

/// On a snapshot: user ids inside and outside.
pub const UID_MAPPING: &str = "containerd.io/snapshot/uidmapping";
/// On a snapshot: group ids inside and outside.
pub const GID_MAPPING: &str = "containerd.io/snapshot/gidmapping";

/// How a snapshot's owners are mapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    /// As the label says.
    pub uid: String,
    /// As the label says.
    pub gid: String,
    /// What root inside is outside: user and group.
    pub root: (u32, u32),
}

/// What the labels say; `None` if they say nothing. One without the other is an error.
pub fn read(labels: &Labels) -> Result<Option<IdMap>, Status> {
    match (labels.get(UID_MAPPING), labels.get(GID_MAPPING)) {
        (None, None) => Ok(None),
        (Some(uid), Some(gid)) => {
            let root = (root_of(UID_MAPPING, uid)?, root_of(GID_MAPPING, gid)?);
            Ok(Some(IdMap { uid: uid.clone(), gid: gid.clone(), root }))
        }
        _ => {
            Err(Status::invalid_argument(format!("the labels {UID_MAPPING} and {GID_MAPPING} must be given together")))
        }
    }
}

/// What id 0 inside is outside.
fn root_of(label: &str, text: &str) -> Result<u32, Status> {
    let wrong = |why: &str| Status::invalid_argument(format!("label {label}={text:?}: {why}"));
    let mut root = None;
    for range in text.split(',') {
        let mut numbers = range.split(':').map(str::parse::<u32>);
        let (Some(Ok(inside)), Some(Ok(outside)), Some(Ok(size)), None) =
            (numbers.next(), numbers.next(), numbers.next(), numbers.next())
        else {
            return Err(wrong("a mapping is CONTAINER:HOST:SIZE, three numbers"));
        };
        if size == 0 || inside.checked_add(size - 1).is_none() || outside.checked_add(size - 1).is_none() {
            return Err(wrong("the range is empty or ends beyond the last id"));
        }
        if inside == 0 {
            root = Some(outside);
        }
    }
    root.ok_or_else(|| wrong("it maps nothing to id 0, which would own the root directory"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_as_a_table() {
        for (text, root) in [
            ("0:1000:65536", Some(1000)),
            ("1:200000:10,0:100000:1", Some(100_000)),
            ("1:1000:10", None),
            ("0:1000", None),
            ("0:1000:0", None),
            ("0:4294967295:2", None),
            ("a:b:c", None),
            ("", None),
        ] {
            assert_eq!(root_of(UID_MAPPING, text).ok(), root, "{text}");
        }
    }

    #[test]
    fn both_or_none() {
        let labels = |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), "0:7:9".to_owned())).collect::<Labels>();
        assert_eq!(read(&labels(&[])).unwrap(), None);
        assert_eq!(read(&labels(&[UID_MAPPING, GID_MAPPING])).unwrap().unwrap().root, (7, 7));
        assert!(read(&labels(&[UID_MAPPING])).is_err());
    }
}
