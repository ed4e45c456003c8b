//! How much of a list one reply holds: so many items, so many bytes, and at least one, so that a walk goes on.

/// Items if the caller names no number, and at most.
const ITEMS: usize = 500;
const MAX_ITEMS: usize = 1000;
/// Encoded bytes; half of what the bus carries.
const MAX_BYTES: usize = 512 << 10;

/// How many items a caller may get who asks for `limit`.
pub(crate) fn items(limit: u32) -> usize {
    if limit == 0 { ITEMS } else { (limit as usize).min(MAX_ITEMS) }
}

/// Cuts a list that was read one item further than `items` to a page; `true`: there are more.
pub(crate) fn cut<T: prost::Message>(list: &mut Vec<T>, items: usize) -> bool {
    // A tag and a length before each.
    const FRAME: usize = 8;
    let found = list.len();
    let mut bytes = 0_usize;
    let fit = list.iter().take(items).take_while(|item| {
        bytes += item.encoded_len() + FRAME;
        bytes <= MAX_BYTES
    });
    let fit = fit.count().max(1);
    list.truncate(fit);
    list.len() < found
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_wire::content::{Ingest, ListIngestsReply};
    use prost::Message as _;

    #[test]
    fn a_page_is_bounded_in_items_and_bytes() {
        for (count, name, limit, items_left, more) in [
            (0, 1, 0, 0, false),
            (500, 1, 0, 500, false),
            (501, 1, 0, 500, true),
            (1001, 1, 5000, 1000, true),
            (3, 1, 1, 1, true),
            (501, 4096, 0, 127, true),
            (2, 600 << 10, 0, 1, true),
        ] {
            let mut list = vec![Ingest { r#ref: "x".repeat(name), ..Default::default() }; count];
            assert_eq!(cut(&mut list, items(limit)), more, "{count} of {name} bytes, {limit} wanted");
            assert_eq!(list.len(), items_left, "{count} of {name} bytes, {limit} wanted");
            let size = ListIngestsReply { ingests: list, more }.encoded_len();
            assert!(size <= MAX_BYTES || items_left == 1, "{size} bytes");
        }
    }
}
