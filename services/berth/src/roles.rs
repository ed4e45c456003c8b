//! What each service does on the bus, for the permissions of its NATS user. A test compares it with the code of the services.

use berth_bus::{Call, Job, Role};
use berth_wire::{content, fetcher, metadata, transfer, unpacker};

/// The subjects of these requests.
macro_rules! calls {
    ($($area:ident: $($Request:ident),+ ;)*) => { vec![$($(<$area::$Request as Call>::SUBJECT),+),*] };
}

const FETCH: &str = fetcher::FetchJob::KIND;
const UNPACK: &str = unpacker::UnpackJob::KIND;

/// A user for each service, and one for whoever listens to events. Commands that join the bus are gateways.
pub(crate) fn all() -> Vec<Role> {
    vec![
        Role { name: "content", ..Role::default() },
        Role { name: "metadata", publishes: true, ..Role::default() },
        Role {
            name: "fetcher",
            works: vec![FETCH],
            calls: calls! {
                content: AdvanceIngestRequest, CommitIngestRequest, HashIngestRequest, OpenIngestRequest, ReleaseIngestRequest,
                    RestartIngestRequest, WatchBlobRequest;
                transfer: GetAccessRequest;
            },
            ..Role::default()
        },
        Role {
            name: "unpacker",
            works: vec![UNPACK],
            calls: calls! {
                content: AbortIngestRequest, AdvanceIngestRequest, CommitIngestRequest, HashIngestRequest, OpenIngestRequest,
                    ReleaseIngestRequest, RestartIngestRequest, WatchBlobRequest;
                metadata: AddLeaseResourcesRequest, CommitSnapshotRequest, CommitSnapshotsRequest, CreateLeaseRequest,
                    DeleteLeaseRequest, GetContentRequest, KnownSnapshotsRequest, ListSnapshotsRequest, PrepareSnapshotRequest,
                    PutContentRequest, RemoveSnapshotRequest, StatSnapshotRequest, StatSnapshotsRequest,
                    UpdateSnapshotRequest;
            },
            ..Role::default()
        },
        Role {
            name: "transfer",
            submits: vec![FETCH, UNPACK],
            calls: calls! {
                content: WatchBlobRequest;
                fetcher: ResolveRequest;
                metadata: AddLeaseResourcesRequest, BeginTermRequest, CreatePullRequest, EndPullRequest,
                    GetPullRecordRequest, HoldTermRequest, ListPullRecordsRequest, PrepareSnapshotsRequest, PutContentRequest,
                    PutImageRequest, RenewLeaseRequest, ResumePullRequest, UpdatePullRequest;
                unpacker: CheckHostRequest, CommitLayersRequest, RemoveTreeRequest;
            },
            ..Role::default()
        },
        Role {
            name: "gc",
            submits: vec![FETCH],
            calls: calls! {
                content: AbortIngestRequest, CheckBlobsRequest, DeleteBlobsRequest, ListBlobsRequest, ListIngestsRequest,
                    MeasureStoreRequest, WatchBlobRequest;
                metadata: AbsolveContentsRequest, CondemnContentsRequest, EndMarkRequest, ExplainRequest,
                    GetContentRequest, LeasedRequest, ListContentRequest, ListGarbageRequest, ListImagesRequest,
                    ListNamespacesRequest, ListPullRecordsRequest, ListSnapshotsRequest, ListUnnamedRequest, MarkRequest, MeasureImagesRequest,
                    MeasureRecordsRequest, SweepRequest, WatchActivityRequest, WatchMarkRequest;
                unpacker: MeasureSnapshotsRequest, RemoveOrphansRequest, VerifySnapshotRequest;
            },
            ..Role::default()
        },
        // It speaks for the people outside, who may do everything through it; who they are is the socket's matter.
        Role {
            name: "gateway",
            calls: vec!["content.>", "gc.>", "metadata.>", "transfer.>", "unpacker.>"],
            undertakes: true,
            ..Role::default()
        },
        Role { name: "subscriber", subscribes: true, ..Role::default() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::{Path, PathBuf};

    use prost::Message as _;

    /// Functions of services that are named like a call of another and are none.
    const NAMESAKES: &[(&str, &str)] = &[("unpacker", "metadata.v1.Sweep")];
    /// What moves bytes for a service makes calls for it.
    const BY_HELPERS: &[(&str, &str)] = &[
        ("read_document", "content/document.rs"),
        ("read_arriving_document", "content/document.rs"),
        ("BlobReader", "content/reader.rs"),
        ("BlobWriter", "content/writer.rs"),
        ("Holding", "holding.rs"),
    ];

    /// Each call of the contracts: its service, and the method of the client.
    fn contracts() -> BTreeMap<String, (String, String)> {
        let set = prost_types::FileDescriptorSet::decode(berth_wire::DESCRIPTORS).unwrap();
        let mut calls = BTreeMap::new();
        for file in &set.file {
            let Some(area) = file.package().strip_prefix("berth.").and_then(|rest| rest.strip_suffix(".v1")) else {
                continue;
            };
            for method in file.service.iter().flat_map(|service| &service.method) {
                let mut snake = String::new();
                for letter in method.name().chars() {
                    if letter.is_uppercase() && !snake.is_empty() {
                        snake.push('_');
                    }
                    snake.extend(letter.to_lowercase());
                }
                calls.insert(format!("{area}.v1.{}", method.name()), (area.to_owned(), snake));
            }
        }
        calls
    }

    fn top() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    /// The code below a directory, without its tests.
    fn code(directory: &Path) -> String {
        let mut text = String::new();
        let mut entries: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                text += &code(&path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = std::fs::read_to_string(&path).unwrap();
                text += file.split("#[cfg(test)]\nmod tests").next().unwrap();
            }
        }
        text
    }

    fn calls_of(service: &str, contracts: &BTreeMap<String, (String, String)>) -> BTreeSet<String> {
        let mut text = code(&top().join("services").join(service).join("src"));
        for (word, file) in BY_HELPERS {
            if text.contains(word) {
                text += std::fs::read_to_string(top().join("shared/api/src").join(file))
                    .unwrap()
                    .split("#[cfg(test)]")
                    .next()
                    .unwrap();
            }
        }
        let text: String = text.split_whitespace().collect();
        let mut client = BTreeMap::new();
        let mut used = |area: &str| {
            *client.entry(area.to_owned()).or_insert_with(|| {
                let capital: String = area.get(..1).unwrap().to_uppercase() + area.get(1..).unwrap();
                text.contains(&format!("{capital}Client::new"))
            })
        };
        contracts
            .iter()
            .filter(|(subject, (area, method))| {
                area != service
                    && used(area)
                    && text.contains(&format!(".{method}("))
                    && !NAMESAKES.contains(&(service, subject.as_str()))
            })
            .map(|(subject, _)| subject.clone())
            .collect()
    }

    #[test]
    fn each_service_may_call_what_its_code_calls_and_nothing_else() {
        let contracts = contracts();
        assert!(contracts.len() > 80, "the contracts are read: {}", contracts.len());
        for role in all().iter().filter(|role| !["gateway", "subscriber"].contains(&role.name)) {
            let granted: BTreeSet<String> = role.calls.iter().map(|subject| (*subject).to_owned()).collect();
            let needed = calls_of(role.name, &contracts);
            assert_eq!(granted, needed, "the calls of {} in services/berth/src/roles.rs", role.name);
        }
    }

    #[test]
    fn the_gateway_may_call_the_services_whose_clients_it_has() {
        let text = code(&top().join("services/gateway/src"));
        let clients: BTreeSet<String> = ["content", "gc", "metadata", "transfer", "unpacker", "fetcher"]
            .iter()
            .filter(|area| {
                let capital = area.get(..1).unwrap().to_uppercase() + area.get(1..).unwrap();
                text.contains(&format!("{capital}Client::new"))
            })
            .map(|area| format!("{area}.>"))
            .collect();
        let gateway = all().into_iter().find(|role| role.name == "gateway").unwrap();
        let granted: BTreeSet<String> = gateway.calls.iter().map(|subject| (*subject).to_owned()).collect();
        assert_eq!(granted, clients);
    }

    #[test]
    fn jobs_and_events_are_granted_to_those_who_use_them() {
        for role in all().iter().filter(|role| !["gateway", "subscriber"].contains(&role.name)) {
            let text = code(&top().join("services").join(role.name).join("src"));
            assert_eq!(text.contains("bus.submit("), !role.submits.is_empty(), "{} submits jobs", role.name);
            assert_eq!(text.contains(".work("), !role.works.is_empty(), "{} works on jobs", role.name);
            assert_eq!(text.contains("bus.publish("), role.publishes, "{} publishes events", role.name);
            assert_eq!(text.contains("bus.subscribe("), role.subscribes, "{} reads events", role.name);
            for (job, kind) in [("FetchJob", FETCH), ("UnpackJob", UNPACK)] {
                let granted = role.submits.contains(&kind) || role.works.contains(&kind);
                assert_eq!(text.contains(job), granted, "{} knows the job {kind}", role.name);
            }
        }
    }
}
