//! A directory of OCI layouts, each with its tags.

use std::{
    collections::BTreeSet,
    fs,
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
    let index: Value = serde_json::from_slice(&fs::read(layout.join("index.json"))?)?;
    let entries = index.get("manifests").and_then(Value::as_array).context("it has no manifests")?;
    let tag =
        |entry: &Value| entry.pointer("/annotations/org.opencontainers.image.ref.name")?.as_str().map(str::to_owned);
    Ok(entries.iter().filter_map(tag).collect())
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
    }
}
