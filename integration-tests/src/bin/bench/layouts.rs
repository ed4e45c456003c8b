//! OCI layouts: their tags, and one of those alone.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// All tags of all layouts in a directory, as `oci:DIR/NAME:TAG`, in the order of their names.
pub(crate) fn images(dir: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))?;
    let layouts = entries.map(|entry| Ok(entry?.path())).collect::<Result<BTreeSet<PathBuf>>>()?;
    let mut images = Vec::new();
    for layout in layouts.iter().filter(|layout| layout.join("index.json").is_file()) {
        let tags = tags(layout).with_context(|| format!("read the index of {}", layout.display()))?;
        images.extend(tags.into_iter().map(|tag| format!("oci:{}:{tag}", layout.display())));
    }
    ensure!(!images.is_empty(), "no layout in {} has a tag", dir.display());
    Ok(images)
}

/// Some programs give one tag to several platforms, each with an entry of its own.
fn tags(layout: &Path) -> Result<BTreeSet<String>> {
    Ok(entries(layout)?.iter().filter_map(tag).map(str::to_owned).collect())
}

fn entries(layout: &Path) -> Result<Vec<Value>> {
    let mut index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let entries = index.get_mut("manifests").and_then(Value::as_array_mut).context("it has no manifests")?;
    Ok(std::mem::take(entries))
}

fn tag(entry: &Value) -> Option<&str> {
    entry.pointer("/annotations/org.opencontainers.image.ref.name")?.as_str()
}

/// Makes a layout that has only this tag, with the blobs of the other one. skopeo looks among several tags only at those of OCI's
/// media types, and takes the only one whatever its type is.
pub(crate) fn alone(layout: &Path, wanted: &str, made: &Path) -> Result<()> {
    let entries = entries(layout).with_context(|| format!("read the index of {}", layout.display()))?;
    let entry = entries.iter().find(|entry| tag(entry) == Some(wanted));
    let entry = entry.with_context(|| format!("{} has no tag {wanted}", layout.display()))?;
    fs::create_dir(made).with_context(|| format!("make {}", made.display()))?;
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(made.join("index.json"), index.to_string())?;
    fs::write(made.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    symlink(fs::canonicalize(layout)?.join("blobs"), made.join("blobs"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_tags_of_all_layouts() {
        let dir = tempfile::tempdir().unwrap();
        assert!(images(dir.path()).is_err(), "nothing there");
        let entry = |tag: &str| format!(r#"{{"annotations":{{"org.opencontainers.image.ref.name":"{tag}"}}}}"#);
        let layouts = [
            ("two", format!("{},{},{}", entry("zstd"), entry("latest"), entry("latest"))),
            ("one", format!(r#"{},{{"digest":"without a tag"}}"#, entry("1.0"))),
            ("none", String::new()),
        ];
        for (name, entries) in layouts {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("index.json"), format!(r#"{{"manifests":[{entries}]}}"#)).unwrap();
        }
        fs::create_dir(dir.path().join("no-layout")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let named = |tag: &str| format!("oci:{}/{tag}", dir.path().display());
        assert_eq!(images(dir.path()).unwrap(), ["one:1.0", "two:latest", "two:zstd"].map(named));
        let (two, made) = (dir.path().join("two"), dir.path().join("made"));
        alone(&two, "zstd", &made).unwrap();
        assert_eq!(tags(&made).unwrap(), BTreeSet::from(["zstd".to_owned()]));
        assert_eq!(fs::read_link(made.join("blobs")).unwrap(), two.canonicalize().unwrap().join("blobs"));
        assert!(alone(&two, "other", &dir.path().join("other")).is_err());
    }
}
