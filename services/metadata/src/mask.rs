//! Field masks: which fields of a record an update changes. The paths are containerd's; after `labels.` or `annotations.`
//! the rest is the key, whatever dots and slashes it has.

use berth_model::{Status, labels::Labels};

/// Refuses a path that is not among those an update knows.
pub(crate) fn unknown(path: &str, of: &str) -> Status {
    let path: String = path.chars().take(100).collect();
    Status::invalid_argument(format!("cannot update {path:?} of {of}: there is no such field, or it never changes"))
}

/// What is after `field.`; none if the path is of another field. `field.` alone names nothing.
pub(crate) fn key_of<'a>(path: &'a str, field: &str) -> Option<&'a str> {
    path.strip_prefix(field)?.strip_prefix('.').filter(|key| !key.is_empty())
}

/// Sets one key to what `from` has; nothing, or an empty value, takes it away.
pub(crate) fn set_one(into: &mut Labels, key: &str, from: &Labels) {
    match from.get(key).filter(|value| !value.is_empty()) {
        Some(value) => drop(into.insert(key.to_owned(), value.clone())),
        None => drop(into.remove(key)),
    }
}

/// The labels of a record are `from`, without those that are empty.
pub(crate) fn whole(from: &Labels) -> Labels {
    from.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The update of something of which only labels change.
pub(crate) fn labels(into: &mut Labels, from: &Labels, paths: &[String], of: &str) -> Result<(), Status> {
    if paths.is_empty() {
        *into = whole(from);
    }
    for path in paths {
        match key_of(path, "labels") {
            Some(key) => set_one(into, key, from),
            None if path == "labels" => *into = whole(from),
            None => return Err(unknown(path, of)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use berth_model::Code;

    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_as_a_table() {
        let before = of(&[("a", "1"), ("b.c/d", "2")]);
        let given = of(&[("a", "9"), ("b.c/d", ""), ("e", "3")]);
        for (paths, expected) in [
            (&[][..], Ok(of(&[("a", "9"), ("e", "3")]))),
            (&["labels"], Ok(of(&[("a", "9"), ("e", "3")]))),
            (&["labels.a"], Ok(of(&[("a", "9"), ("b.c/d", "2")]))),
            (&["labels.b.c/d"], Ok(of(&[("a", "1")]))),
            (&["labels.e", "labels.z"], Ok(of(&[("a", "1"), ("b.c/d", "2"), ("e", "3")]))),
            (&["labels."], Err(Code::InvalidArgument)),
            (&["labelsx"], Err(Code::InvalidArgument)),
            (&["size"], Err(Code::InvalidArgument)),
            (&[""], Err(Code::InvalidArgument)),
        ] {
            let mut found = before.clone();
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let done = labels(&mut found, &given, &paths, "content").map(|()| found).map_err(|status| status.code);
            assert_eq!(done, expected, "{paths:?}");
        }
    }
}
