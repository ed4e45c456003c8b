//! The facts this service reports: each with containerd's topic and, in its JSON, containerd's field names. Of pulls,
//! containerd tells nothing; their topics are Berth's own.

use berth_model::labels::Labels;
use berth_wire::metadata::{Verdict, verdict::Share};
use serde_json::{Value, json};

/// One change, said in the past tense. What cannot be said here cannot be reported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fact {
    ImageCreated { name: String, labels: Labels },
    ImageUpdated { name: String, labels: Labels },
    ImageDeleted { name: String },
    ContentCreated { digest: String, size: u64, media_type: String },
    ContentDeleted { digest: String },
    SnapshotPrepared { snapshotter: String, key: String, parent: String },
    SnapshotCommitted { snapshotter: String, key: String, name: String },
    SnapshotRemoved { snapshotter: String, key: String },
    NamespaceCreated { name: String, labels: Labels },
    NamespaceUpdated { name: String, labels: Labels },
    NamespaceDeleted { name: String },
    ContainerCreated { id: String, image: String, runtime: String },
    ContainerUpdated { id: String, image: String, labels: Labels, snapshot_key: String },
    ContainerDeleted { id: String },
    PullStarted { id: String, reference: String },
    PullDone { id: String, reference: String, digest: String, verdict: Verdict },
    PullFailed { id: String, reference: String, code: String, message: String, verdict: Verdict },
}

impl Fact {
    /// Where it is reported.
    pub(crate) fn topic(&self) -> &'static str {
        match self {
            Self::ImageCreated { .. } => "/images/create",
            Self::ImageUpdated { .. } => "/images/update",
            Self::ImageDeleted { .. } => "/images/delete",
            Self::ContentCreated { .. } => "/content/create",
            Self::ContentDeleted { .. } => "/content/delete",
            Self::SnapshotPrepared { .. } => "/snapshot/prepare",
            Self::SnapshotCommitted { .. } => "/snapshot/commit",
            Self::SnapshotRemoved { .. } => "/snapshot/remove",
            Self::NamespaceCreated { .. } => "/namespaces/create",
            Self::NamespaceUpdated { .. } => "/namespaces/update",
            Self::NamespaceDeleted { .. } => "/namespaces/delete",
            Self::ContainerCreated { .. } => "/containers/create",
            Self::ContainerUpdated { .. } => "/containers/update",
            Self::ContainerDeleted { .. } => "/containers/delete",
            Self::PullStarted { .. } => "/pulls/start",
            Self::PullDone { .. } => "/pulls/done",
            Self::PullFailed { .. } => "/pulls/fail",
        }
    }

    /// What is reported. Fields that are empty are left out, as JSON of protobuf does.
    pub(crate) fn json(&self) -> String {
        let mut body = match self {
            Self::ImageCreated { name, labels }
            | Self::ImageUpdated { name, labels }
            | Self::NamespaceCreated { name, labels }
            | Self::NamespaceUpdated { name, labels } => json!({ "name": name, "labels": labels }),
            Self::ImageDeleted { name } | Self::NamespaceDeleted { name } => json!({ "name": name }),
            Self::ContentCreated { digest, size, media_type } => {
                json!({ "digest": digest, "size": size, "media_type": media_type })
            }
            Self::ContentDeleted { digest } => json!({ "digest": digest }),
            Self::SnapshotPrepared { snapshotter, key, parent } => {
                json!({ "key": key, "parent": parent, "snapshotter": snapshotter })
            }
            Self::SnapshotCommitted { snapshotter, key, name } => {
                json!({ "key": key, "name": name, "snapshotter": snapshotter })
            }
            Self::SnapshotRemoved { snapshotter, key } => json!({ "key": key, "snapshotter": snapshotter }),
            Self::ContainerCreated { id, image, runtime } => {
                json!({ "id": id, "image": image, "runtime": { "name": runtime } })
            }
            Self::ContainerUpdated { id, image, labels, snapshot_key } => {
                json!({ "id": id, "image": image, "labels": labels, "snapshot_key": snapshot_key })
            }
            Self::ContainerDeleted { id } => json!({ "id": id }),
            Self::PullStarted { id, reference } => json!({ "id": id, "reference": reference }),
            Self::PullDone { id, reference, digest, verdict } => {
                json!({ "id": id, "reference": reference, "digest": digest, "verdict": verdict.sentence, "why": why(verdict) })
            }
            Self::PullFailed { id, reference, code, message, verdict } => {
                json!({
                    "id": id,
                    "reference": reference,
                    "code": code,
                    "message": message,
                    "verdict": verdict.sentence,
                    "why": why(verdict),
                })
            }
        };
        if let Value::Object(fields) = &mut body {
            fields.retain(|_, value| !is_empty(value));
        }
        body.to_string()
    }
}

/// The figures behind a verdict. Not its steps: they would make an event as large as the image has blobs.
fn why(verdict: &Verdict) -> Value {
    if *verdict == Verdict::default() {
        return json!({});
    }
    let shares =
        |shares: &[Share]| -> Value { shares.iter().map(|share| (share.what.clone(), json!(share.us))).collect() };
    json!({
        "total_us": verdict.total_us,
        "path_us": shares(&verdict.path),
        "waits_us": shares(&verdict.waits),
        "bytes": {
            "registry": verdict.from_registry,
            "present": verdict.present,
            "other_pulls": verdict.from_other_pulls,
        },
        "retries": verdict.retries,
        "retried_hosts": verdict.retried_hosts,
        "host": verdict.host,
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// One fact of each kind, every field of it filled.
#[cfg(test)]
pub(crate) fn samples() -> Vec<Fact> {
    let labels = || Labels::from([("a".to_owned(), "b".to_owned())]);
    let text = |text: &str| text.to_owned();
    let digest = || format!("sha256:{}", "0".repeat(64));
    let share = || vec![Share { what: text("transfer"), us: 9 }];
    let verdict = || Verdict {
        sentence: text("90 % of it"),
        total_us: 10,
        path: share(),
        waits: share(),
        from_registry: 1,
        present: 2,
        from_other_pulls: 3,
        retries: [(text("429"), 1)].into(),
        retried_hosts: [(text("registry.example"), 1)].into(),
        host: text("registry.example"),
        ..Verdict::default()
    };
    let first = Fact::ImageCreated { name: text("docker.io/library/a:1"), labels: labels() };
    std::iter::successors(Some(first), |fact| {
        // Whoever adds a kind adds it here, and to the contract that these are held against.
        Some(match fact {
            Fact::ImageCreated { .. } => Fact::ImageUpdated { name: text("a"), labels: labels() },
            Fact::ImageUpdated { .. } => Fact::ImageDeleted { name: text("a") },
            Fact::ImageDeleted { .. } => {
                Fact::ContentCreated { digest: digest(), size: 1, media_type: text("text/plain") }
            }
            Fact::ContentCreated { .. } => Fact::ContentDeleted { digest: digest() },
            Fact::ContentDeleted { .. } => {
                Fact::SnapshotPrepared { snapshotter: text("overlayfs"), key: text("k"), parent: text("p") }
            }
            Fact::SnapshotPrepared { .. } => {
                Fact::SnapshotCommitted { snapshotter: text("overlayfs"), key: text("k"), name: text("n") }
            }
            Fact::SnapshotCommitted { .. } => Fact::SnapshotRemoved { snapshotter: text("native"), key: text("k") },
            Fact::SnapshotRemoved { .. } => Fact::NamespaceCreated { name: text("k8s.io"), labels: labels() },
            Fact::NamespaceCreated { .. } => Fact::NamespaceUpdated { name: text("k8s.io"), labels: labels() },
            Fact::NamespaceUpdated { .. } => Fact::NamespaceDeleted { name: text("k8s.io") },
            Fact::NamespaceDeleted { .. } => {
                Fact::ContainerCreated { id: text("c"), image: text("a"), runtime: text("io.containerd.runc.v2") }
            }
            Fact::ContainerCreated { .. } => {
                Fact::ContainerUpdated { id: text("c"), image: text("a"), labels: labels(), snapshot_key: text("k") }
            }
            Fact::ContainerUpdated { .. } => Fact::ContainerDeleted { id: text("c") },
            Fact::ContainerDeleted { .. } => Fact::PullStarted { id: text("p"), reference: text("a") },
            Fact::PullStarted { .. } => {
                Fact::PullDone { id: text("p"), reference: text("a"), digest: digest(), verdict: verdict() }
            }
            Fact::PullDone { .. } => Fact::PullFailed {
                id: text("p"),
                reference: text("a"),
                code: text("not_found"),
                message: text("it is not there"),
                verdict: verdict(),
            },
            Fact::PullFailed { .. } => return None,
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_containerds_field_names() {
        let labels = Labels::from([("a".to_owned(), "\"1\"".to_owned())]);
        let path = vec![Share { what: "transfer".into(), us: 7 }];
        let verdict = Verdict { sentence: "v".into(), host: "h".into(), total_us: 9, path, ..Verdict::default() };
        for (fact, topic, json) in [
            (
                Fact::ImageCreated { name: "n".into(), labels: labels.clone() },
                "/images/create",
                r#"{"labels":{"a":"\"1\""},"name":"n"}"#,
            ),
            (Fact::ImageUpdated { name: "n".into(), labels: Labels::new() }, "/images/update", r#"{"name":"n"}"#),
            (Fact::ImageDeleted { name: "n".into() }, "/images/delete", r#"{"name":"n"}"#),
            (
                Fact::ContentCreated { digest: "d".into(), size: 7, media_type: "m".into() },
                "/content/create",
                r#"{"digest":"d","media_type":"m","size":7}"#,
            ),
            (
                Fact::ContentCreated { digest: "d".into(), size: 0, media_type: String::new() },
                "/content/create",
                r#"{"digest":"d","size":0}"#,
            ),
            (Fact::ContentDeleted { digest: "d".into() }, "/content/delete", r#"{"digest":"d"}"#),
            (
                Fact::SnapshotPrepared { snapshotter: "s".into(), key: "k".into(), parent: "p".into() },
                "/snapshot/prepare",
                r#"{"key":"k","parent":"p","snapshotter":"s"}"#,
            ),
            (
                Fact::SnapshotCommitted { snapshotter: "s".into(), key: "k".into(), name: "n".into() },
                "/snapshot/commit",
                r#"{"key":"k","name":"n","snapshotter":"s"}"#,
            ),
            (
                Fact::SnapshotRemoved { snapshotter: "s".into(), key: "k".into() },
                "/snapshot/remove",
                r#"{"key":"k","snapshotter":"s"}"#,
            ),
            (
                Fact::NamespaceCreated { name: "n".into(), labels: Labels::new() },
                "/namespaces/create",
                r#"{"name":"n"}"#,
            ),
            (
                Fact::NamespaceUpdated { name: "n".into(), labels: labels.clone() },
                "/namespaces/update",
                r#"{"labels":{"a":"\"1\""},"name":"n"}"#,
            ),
            (Fact::NamespaceDeleted { name: "n".into() }, "/namespaces/delete", r#"{"name":"n"}"#),
            (
                Fact::ContainerCreated { id: "c".into(), image: String::new(), runtime: "r".into() },
                "/containers/create",
                r#"{"id":"c","runtime":{"name":"r"}}"#,
            ),
            (
                Fact::ContainerUpdated { id: "c".into(), image: "i".into(), labels, snapshot_key: "k".into() },
                "/containers/update",
                r#"{"id":"c","image":"i","labels":{"a":"\"1\""},"snapshot_key":"k"}"#,
            ),
            (Fact::ContainerDeleted { id: "c".into() }, "/containers/delete", r#"{"id":"c"}"#),
            (
                Fact::PullStarted { id: "p".into(), reference: "r".into() },
                "/pulls/start",
                r#"{"id":"p","reference":"r"}"#,
            ),
            (
                Fact::PullDone { id: "p".into(), reference: "r".into(), digest: "d".into(), verdict: verdict.clone() },
                "/pulls/done",
                r#"{"digest":"d","id":"p","reference":"r","verdict":"v","why":{"bytes":{"other_pulls":0,"present":0,"registry":0},"host":"h","path_us":{"transfer":7},"retried_hosts":{},"retries":{},"total_us":9,"waits_us":{}}}"#,
            ),
            (
                Fact::PullFailed {
                    id: "p".into(),
                    reference: "r".into(),
                    code: "c".into(),
                    message: "m".into(),
                    verdict: Verdict::default(),
                },
                "/pulls/fail",
                r#"{"code":"c","id":"p","message":"m","reference":"r"}"#,
            ),
        ] {
            assert_eq!((fact.topic(), fact.json().as_str()), (topic, json));
        }
    }
}
