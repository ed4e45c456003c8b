//! Where lost bytes can be had again.

use berth_bus::JobUpdate;
use berth_model::{
    Descriptor, Digest, MediaType, Reference, Status,
    labels::{self, Labels},
};
use berth_telemetry::context;
use berth_wire::{
    fetcher::FetchJob,
    gc::item::Outcome,
    metadata::{ListPullRecordsRequest, PullRecord},
    types,
};
use tracing::Instrument as _;

use super::Checking;

/// What the labels of a content record say of where it came from. They name no port.
pub(super) fn of_labels(labels: &Labels) -> Vec<Reference> {
    let of = |(key, value): (&String, &String)| {
        let host = key.strip_prefix(labels::DISTRIBUTION_SOURCE)?.to_owned();
        Some(value.split(',').map(move |repository| format!("{host}/{repository}")).collect::<Vec<_>>())
    };
    labels.iter().filter_map(of).flatten().filter_map(|name| name.parse().ok()).collect()
}

/// A descriptor of bytes of which only the digest is known.
pub(super) fn unknown_kind(digest: Digest, size: u64) -> Descriptor {
    Descriptor::new(MediaType::new("application/octet-stream"), digest, size)
}

/// A registry on this machine is spoken to in plain http, as other tools do.
fn is_loopback(reference: &Reference) -> bool {
    let registry = reference.registry();
    let host = registry.rsplit_once(':').map_or(registry, |(host, _port)| host);
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Checking<'_> {
    /// Makes sure of a blob that something needs: it is there, or was fetched again. `false`: it is lost.
    pub(super) async fn ensure(
        &mut self,
        namespace: &str,
        blob: &Descriptor,
        from: &[Reference],
    ) -> Result<bool, Status> {
        if self.present.contains_key(&blob.digest) {
            return Ok(true);
        }
        if !self.settled.insert(blob.digest) {
            return Ok(false);
        }
        let fault = self.fault(&blob.digest);
        if !self.wanted.repair {
            self.tell(Outcome::Damaged, namespace, "content", &blob.digest.to_string(), fault);
            return Ok(false);
        }
        let mut reasons = Vec::new();
        for reference in from {
            match self.fetch(blob, reference).await {
                Ok(()) => {
                    let note =
                        format!("{fault}; fetched again from {}/{}", reference.registry(), reference.repository());
                    self.tell(Outcome::Mended, namespace, "content", &blob.digest.to_string(), note);
                    self.present.insert(blob.digest, blob.size);
                    return Ok(true);
                }
                Err(status) => reasons.push(status.to_string()),
            }
        }
        let why = if reasons.is_empty() { "where it came from is not known".to_owned() } else { reasons.join("; ") };
        let note = format!("{fault}; it could not be fetched again: {why}");
        self.tell(Outcome::Damaged, namespace, "content", &blob.digest.to_string(), note);
        Ok(false)
    }

    /// Fetches it again: a span of the check, tied to the pull that fetched it before.
    async fn fetch(&mut self, blob: &Descriptor, reference: &Reference) -> Result<(), Status> {
        let span = tracing::info_span!("repair", digest = %blob.digest, registry = reference.registry());
        context::link_all(&span, self.pulls_of(reference).await.iter().map(String::as_str));
        self.fetch_again(blob, reference).instrument(span).await
    }

    /// The traces of pulls from this repository, the newest first, as far as they are remembered.
    async fn pulls_of(&mut self, reference: &Reference) -> Vec<String> {
        if self.pulls.is_none() {
            let listed = self.backend.pulls.list_pull_records(ListPullRecordsRequest::default()).await;
            // Without them the repair is as good.
            self.pulls = Some(listed.map(|reply| reply.pulls).unwrap_or_default());
        }
        let of_it = |pull: &&PullRecord| {
            let place = |other: &Reference| (other.registry().to_owned(), other.repository().to_owned());
            pull.reference.parse::<Reference>().is_ok_and(|other| place(&other) == place(reference))
        };
        let pulls = self.pulls.iter().flatten().rev().filter(of_it);
        pulls.map(|pull| pull.traceparent.clone()).collect()
    }

    async fn fetch_again(&self, blob: &Descriptor, reference: &Reference) -> Result<(), Status> {
        let job = FetchJob {
            // No pull, and so no credentials: what is public can be fetched.
            pull_id: String::new(),
            reference: reference.to_string(),
            descriptor: Some(types::Descriptor::from(blob)),
            plain_http: is_loopback(reference),
        };
        let mut handle = self.backend.bus.submit(job).await?;
        loop {
            if let JobUpdate::Done(outcome) = handle.next().await {
                return outcome.map(drop);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_as_a_table() {
        let key = format!("{}registry.example.com", labels::DISTRIBUTION_SOURCE);
        let found = of_labels(&[(key, "a/b,c".to_owned()), ("other".to_owned(), "x".to_owned())].into());
        let found: Vec<_> = found.iter().map(|r| format!("{}/{}", r.registry(), r.repository())).collect();
        assert_eq!(found, ["registry.example.com/a/b", "registry.example.com/c"]);
        for (name, loopback) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("[::1]:5000/a", true),
            ("localhost.example.com/a", false),
            ("registry.example.com/a", false),
        ] {
            assert_eq!(is_loopback(&name.parse().unwrap()), loopback, "{name}");
        }
    }
}
