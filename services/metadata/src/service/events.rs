//! Calls about events.

use std::time::Duration;

use berth_model::{Identifier, Status};
use berth_wire::metadata as msg;

use super::LONGEST_WAIT;
use crate::{check, store::Store};

/// Of a published event: it must fit the bus when it is read.
const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

pub(super) async fn read(store: &Store, request: msg::ReadEventsRequest) -> Result<msg::ReadEventsReply, Status> {
    let wait = Duration::from_millis(request.wait_ms.into()).min(LONGEST_WAIT);
    store.events_after(request.after, request.limit, wait).await
}

pub(super) async fn publish(
    store: &Store,
    request: msg::PublishEventRequest,
) -> Result<msg::PublishEventReply, Status> {
    let namespace = check::namespace(&request.namespace)?;
    topic(&request.topic)?;
    let payload = request.payload.unwrap_or_default();
    check::at_most("the type of the event", &payload.type_url)?;
    if payload.value.len() > MAX_PAYLOAD_BYTES {
        return Err(Status::invalid_argument(format!(
            "the event takes {} bytes, at most {MAX_PAYLOAD_BYTES} are allowed",
            payload.value.len()
        )));
    }
    let event =
        msg::Event { namespace, topic: request.topic, at: request.at, payload: Some(payload), ..msg::Event::default() };
    store
        .change(move |change| {
            change.pass_on(event);
            Ok(())
        })
        .await?;
    Ok(msg::PublishEventReply {})
}

/// `/a/b`: each part an identifier.
fn topic(text: &str) -> Result<(), Status> {
    let refuse = |why: String| Status::invalid_argument(format!("topic {text:?}: {why}"));
    check::at_most("the topic", text)?;
    let parts = text.strip_prefix('/').ok_or_else(|| refuse("it must start with '/'".to_owned()))?;
    for part in parts.split('/') {
        part.parse::<Identifier>().map_err(|error| refuse(error.to_string()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::topic;

    #[test]
    fn topics_as_a_table() {
        for good in ["/a", "/images/create", "/a.b/c-d/e_f"] {
            assert!(topic(good).is_ok(), "{good}");
        }
        for bad in ["", "/", "a/b", "/a//b", "/a/", "/a b", "/a/*"] {
            assert!(topic(bad).is_err(), "{bad}");
        }
    }
}
