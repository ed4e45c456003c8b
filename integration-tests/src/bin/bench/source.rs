//! What an image is made of, asked of its registry by plain HTTP: manifests, and blobs that are read and thrown away or kept.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    net::TcpStream,
};

use anyhow::{Context as _, Result, bail, ensure};
use berth_model::Platform;
use serde_json::Value;

const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// An image at a registry.
pub(crate) struct Source {
    host: String,
    repository: String,
    /// Digests of its layers, the largest first.
    pub(crate) layers: Vec<String>,
    /// The same, each as often as it is there, the lowest first.
    pub(crate) stack: Vec<String>,
    /// The digest of its configuration.
    pub(crate) config: String,
}

impl Source {
    /// By its reference, `HOST:PORT/NAME:TAG`; of an index, the image for this machine, which is the one that is pulled.
    pub(crate) fn of(reference: &str) -> Result<Self> {
        let (host, rest) = reference.split_once('/').context("a reference begins with a host")?;
        let (repository, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
        let (layers, stack, config) = (Vec::new(), Vec::new(), String::new());
        let mut source = Self { host: host.to_owned(), repository: repository.to_owned(), layers, stack, config };
        let mut manifest = source.manifest(tag)?;
        if let Some(entries) = manifest.get("manifests").and_then(Value::as_array) {
            manifest = source.manifest(chosen(entries, &Platform::host())?)?;
        }
        let mut layers: Vec<(u64, String)> = Vec::new();
        for layer in manifest.get("layers").and_then(Value::as_array).context("the manifest has no layers")? {
            let digest = layer.get("digest").and_then(Value::as_str).context("a layer has no digest")?;
            layers.push((layer.get("size").and_then(Value::as_u64).unwrap_or(0), digest.to_owned()));
            source.stack.push(digest.to_owned());
        }
        let config = manifest.pointer("/config/digest").and_then(Value::as_str);
        config.context("the manifest has no configuration")?.clone_into(&mut source.config);
        layers.sort();
        layers.dedup();
        source.layers = layers.into_iter().rev().map(|(_, digest)| digest).collect();
        Ok(source)
    }

    fn manifest(&self, which: &str) -> Result<Value> {
        let mut text = String::new();
        self.get(&format!("manifests/{which}"))?.read_to_string(&mut text)?;
        serde_json::from_str(&text).with_context(|| format!("the manifest of {}/{}", self.host, self.repository))
    }

    /// The bytes of a layer, as they come.
    pub(crate) fn blob(&self, digest: &str) -> Result<impl Read + use<>> {
        self.get(&format!("blobs/{digest}"))
    }

    fn get(&self, what: &str) -> Result<impl Read + use<>> {
        let path = format!("/v2/{}/{what}", self.repository);
        let mut stream = TcpStream::connect(&self.host).with_context(|| format!("connect to {}", self.host))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: {ACCEPT}\r\nConnection: close\r\n\r\n", self.host)?;
        let mut answer = BufReader::with_capacity(256 << 10, stream);
        let mut line = String::new();
        answer.read_line(&mut line)?;
        ensure!(line.split(' ').nth(1) == Some("200"), "{}{path} answers {:?}", self.host, line.trim_end());
        let mut length = None;
        loop {
            line.clear();
            answer.read_line(&mut line)?;
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = Some(value.trim().parse::<u64>()?);
            }
        }
        let Some(length) = length else { bail!("{}{path}: an answer without a length", self.host) };
        Ok(answer.take(length))
    }
}

/// The digest of the entry for a platform: the first that is for just it, or else the first that says nothing of platforms.
/// Attestations are for `unknown/unknown`.
fn chosen<'a>(entries: &'a [Value], wanted: &Platform) -> Result<&'a str> {
    let told = |entry: &Value, what: &str| {
        let text = entry.pointer(&format!("/platform/{what}")).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let fits = |entry: &&Value| {
        let offered = Platform::new(&told(entry, "os"), &told(entry, "architecture"), &told(entry, "variant"));
        offered == *wanted
    };
    let silent = || entries.iter().find(|entry| entry.get("platform").is_none());
    let entry = entries.iter().find(fits).or_else(silent);
    let entry = entry.with_context(|| format!("the index has nothing for {wanted}"))?;
    entry.get("digest").and_then(Value::as_str).context("an entry of the index has no digest")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_an_index_the_image_for_this_machine() {
        let entry = |digest: &str, os: &str, architecture: &str, variant: &str| json!({ "digest": digest, "platform": { "os": os, "architecture": architecture, "variant": variant } });
        let all = [
            entry("attestation", "unknown", "unknown", ""),
            entry("arm64", "linux", "arm64", "v8"),
            entry("windows", "windows", "amd64", ""),
            entry("v3", "linux", "amd64", "v3"),
            entry("amd64", "linux", "amd64", ""),
            entry("again", "linux", "amd64", ""),
        ];
        let found = |entries: &[Value], architecture: &str| -> Option<String> {
            chosen(entries, &Platform::new("linux", architecture, "")).ok().map(str::to_owned)
        };
        assert_eq!(found(&all, "x86_64").as_deref(), Some("amd64"));
        assert_eq!(found(&all, "aarch64").as_deref(), Some("arm64"));
        assert_eq!(found(&all, "riscv64"), None);
        let silent = json!({ "digest": "silent" });
        assert_eq!(found(&[all[0].clone(), silent], "x86_64").as_deref(), Some("silent"));
        assert_eq!(found(&all[..1], "x86_64"), None);
    }
}
