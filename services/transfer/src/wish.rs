//! What is asked of a pull: read and checked from a request, written into its record, and read back from that.

use std::time::Duration;

use berth_model::{Identifier, Platform, Reference, Status, labels};
use berth_wire::{
    fetcher::Access,
    metadata::{Priority, PullRecord},
    transfer as msg, types,
};

/// What is asked of a pull.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) namespace: String,
    pub(crate) reference: Reference,
    pub(crate) platforms: Vec<Platform>,
    pub(crate) snapshotter: String,
    pub(crate) unpack: bool,
    pub(crate) access: Access,
    pub(crate) labels: labels::Labels,
}

/// Whether there are credentials, which no record holds.
pub(crate) fn has_credentials(access: &Access) -> bool {
    !access.username.is_empty() || !access.secret.is_empty()
}

impl Wish {
    /// Whether they ask for the same, credentials aside.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.namespace == other.namespace
            && self.reference == other.reference
            && self.platforms == other.platforms
            && self.snapshotter == other.snapshotter
            && self.unpack == other.unpack
            && self.labels == other.labels
            && self.access.plain_http == other.access.plain_http
    }

    pub(crate) fn of_request(request: &msg::StartPullRequest) -> Result<Self, Status> {
        let invalid = |error: &dyn std::fmt::Display| Status::invalid_argument(error.to_string());
        request.namespace.parse::<Identifier>().map_err(|error| invalid(&error).context("namespace"))?;
        let reference: Reference = request.reference.parse().map_err(|error| invalid(&error))?;
        labels::check(&request.labels)?;
        let mut platforms: Vec<Platform> = request.platforms.iter().map(Platform::from).collect();
        if platforms.is_empty() {
            platforms.push(Platform::host());
        }
        let snapshotter =
            if request.snapshotter.is_empty() { "overlayfs".to_owned() } else { request.snapshotter.clone() };
        Ok(Self {
            namespace: request.namespace.clone(),
            reference,
            platforms,
            snapshotter,
            unpack: !request.no_unpack,
            access: request.access.clone().unwrap_or_default(),
            labels: request.labels.clone(),
        })
    }

    pub(crate) fn of_record(record: &PullRecord) -> Result<Self, Status> {
        let damaged =
            |error: &dyn std::fmt::Display| Status::data_loss(format!("the record of pull {}: {error}", record.id));
        Ok(Self {
            namespace: record.namespace.clone(),
            reference: record.reference.parse().map_err(|error| damaged(&error))?,
            platforms: record.platforms.iter().map(Platform::from).collect(),
            snapshotter: record.snapshotter.clone(),
            unpack: !record.no_unpack,
            access: Access { plain_http: record.plain_http, ..Access::default() },
            labels: record.labels.clone(),
        })
    }

    /// The record of a pull that begins with it; credentials stay here.
    pub(crate) fn record(&self, id: &str, request: &msg::StartPullRequest) -> PullRecord {
        let deadline = (request.timeout_ms > 0)
            .then(|| std::time::SystemTime::now().checked_add(Duration::from_millis(request.timeout_ms)))
            .flatten();
        PullRecord {
            id: id.to_owned(),
            namespace: self.namespace.clone(),
            reference: self.reference.to_string(),
            platforms: self.platforms.iter().map(types::Platform::from).collect(),
            snapshotter: self.snapshotter.clone(),
            no_unpack: !self.unpack,
            labels: self.labels.clone(),
            priority: request.priority,
            detached: request.detached,
            plain_http: self.access.plain_http,
            with_credentials: has_credentials(&self.access),
            deadline: deadline.map(types::Time::from),
            ..PullRecord::default()
        }
    }
}

/// The share of a pull's jobs in all turns.
pub(crate) fn weight(priority: Priority) -> u32 {
    match priority {
        Priority::Low => 1,
        Priority::Normal => 4,
        Priority::High => 16,
    }
}

/// How much later than `earlier` a moment is; nothing if it is not.
pub(crate) fn between(earlier: types::Time, later: types::Time) -> Duration {
    let nanos = |time: types::Time| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
    u64::try_from(nanos(later) - nanos(earlier)).map_or(Duration::ZERO, Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_says_all_but_the_credentials() {
        let request = msg::StartPullRequest {
            namespace: "n".into(),
            reference: "alpine".into(),
            access: Some(Access { username: "u".into(), secret: "s3cret".into(), plain_http: true }),
            labels: [("a".to_owned(), "b".to_owned())].into(),
            timeout_ms: 60_000,
            ..Default::default()
        };
        let wish = Wish::of_request(&request).unwrap();
        let record = wish.record("i", &request);
        assert!(record.with_credentials && !format!("{record:?}").contains("s3cret"));
        let left = between(types::Time::now(), record.deadline.unwrap());
        assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(60), "{left:?}");
        let again = Wish::of_record(&record).unwrap();
        assert!(again.is_like(&wish) && !has_credentials(&again.access));
        let other = Wish { unpack: false, ..again };
        assert!(!other.is_like(&wish));
    }
}
