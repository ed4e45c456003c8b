//! Which pull a person means: by its id, how that begins, or the reference. Pure.

use berth_model::{Reference, Status};
use berth_wire::metadata::{PullRecord, pull_record::State};

/// Shown when several are meant.
const SHOWN: usize = 5;

/// The one that `text` means.
pub(crate) fn find<'a>(records: &'a [PullRecord], text: &str) -> Result<&'a PullRecord, Status> {
    if let Some(exact) = records.iter().find(|record| record.id == text) {
        return Ok(exact);
    }
    let by_prefix: Vec<&PullRecord> =
        records.iter().filter(|record| !text.is_empty() && record.id.starts_with(text)).collect();
    if let [one] = by_prefix.as_slice() {
        return Ok(one);
    }
    // A name such as "cafe" may be both.
    let reference = text.parse::<Reference>().ok().map(|reference| reference.to_string());
    let of_reference = records.iter().filter(|record| Some(&record.reference) == reference.as_ref());
    if let Some(newest) = of_reference.max_by_key(|record| (record.state() == State::Running, when(record))) {
        return Ok(newest);
    }
    if by_prefix.is_empty() {
        return Err(Status::not_found(format!(
            "there is no pull {text:?}, by id or by reference; `berth pulls ls --all` shows those there are"
        )));
    }
    let shown: Vec<&str> = by_prefix.iter().take(SHOWN).map(|record| record.id.as_str()).collect();
    Err(Status::invalid_argument(format!(
        "{} pulls have ids that begin with {text:?} ({}, ...); write more of it",
        by_prefix.len(),
        shown.join(", ")
    )))
}

fn when(record: &PullRecord) -> (i64, u32) {
    record.created_at.map_or((0, 0), |time| (time.seconds, time.nanos))
}

#[cfg(test)]
mod tests {
    use berth_wire::types::Time;

    use super::*;

    fn record(id: &str, reference: &str, state: State, seconds: i64) -> PullRecord {
        let created_at = Some(Time { seconds, nanos: 0 });
        PullRecord { id: id.into(), reference: reference.into(), state: state.into(), created_at, ..Default::default() }
    }

    #[test]
    fn ids_prefixes_and_references() {
        let alpine = "docker.io/library/alpine:latest";
        let records = [
            record("0a11", alpine, State::Running, 1),
            record("0a22", alpine, State::Done, 2),
            record("0b33", "h:1/x:2", State::Done, 3),
            record("0b33f", "h:1/x:2", State::Failed, 4),
        ];
        for (text, expected) in
            [("0a11", "0a11"), ("0a2", "0a22"), ("0b33", "0b33"), ("alpine", "0a11"), ("h:1/x:2", "0b33f")]
        {
            assert_eq!(find(&records, text).unwrap().id, expected, "{text}");
        }
        let several = find(&records, "0a").unwrap_err();
        assert!(several.message.contains("0a11, 0a22"), "{several}");
        for none in ["", "ff", "busybox"] {
            assert_eq!(find(&records, none).unwrap_err().code, berth_model::Code::NotFound, "{none}");
        }
    }
}
