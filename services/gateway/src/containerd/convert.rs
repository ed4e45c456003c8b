//! From containerd's messages to the contracts' and back.

use berth_model::Status;
use berth_wire::{containerd::types, metadata as msg, types as wire};
use prost_types::{Any, FieldMask, Timestamp};

/// A moment as protobuf says it.
pub(crate) fn timestamp(time: Option<wire::Time>) -> Option<Timestamp> {
    time.map(|time| Timestamp { seconds: time.seconds, nanos: i32::try_from(time.nanos).unwrap_or(0) })
}

/// A moment as the contracts say it.
pub(crate) fn time(stamp: Option<Timestamp>) -> Result<Option<wire::Time>, Status> {
    let Some(stamp) = stamp else { return Ok(None) };
    match u32::try_from(stamp.nanos) {
        Ok(nanos @ 0..1_000_000_000) => Ok(Some(wire::Time { seconds: stamp.seconds, nanos })),
        _ => Err(Status::invalid_argument(format!("{stamp:?} is no time"))),
    }
}

/// A size as containerd says it.
pub(crate) fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// A size of a request.
pub(crate) fn size(what: &str, size: i64) -> Result<u64, Status> {
    u64::try_from(size).map_err(|_negative| Status::invalid_argument(format!("{what} cannot be {size}")))
}

pub(crate) fn descriptor(from: Option<wire::Descriptor>) -> Option<types::Descriptor> {
    from.map(|from| types::Descriptor {
        media_type: from.media_type,
        digest: from.digest,
        size: signed(from.size),
        annotations: from.annotations,
    })
}

pub(crate) fn from_descriptor(from: Option<types::Descriptor>) -> Result<Option<wire::Descriptor>, Status> {
    let Some(from) = from else { return Ok(None) };
    Ok(Some(wire::Descriptor {
        size: size("the size of the target", from.size)?,
        media_type: from.media_type,
        digest: from.digest,
        annotations: from.annotations,
        platform: None,
    }))
}

/// The paths of an update; none is an update of everything.
pub(crate) fn paths(mask: Option<FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

pub(crate) fn payload(any: Option<Any>) -> Option<msg::Payload> {
    any.map(|any| msg::Payload { type_url: any.type_url, value: any.value })
}

pub(crate) fn any(payload: Option<msg::Payload>) -> Option<Any> {
    payload.map(|payload| Any { type_url: payload.type_url, value: payload.value })
}
