//! Pages: a list comes in replies that are bounded in items and in bytes, and always make progress.

use prost::Message;

const DEFAULT_ITEMS: u32 = 500;
const MAX_ITEMS: u32 = 1000;
/// Half of what the bus carries: the last item may be larger than what was left.
const MAX_BYTES: usize = 512 * 1024;

/// How many items a request asks for: 0 is the default, more than the bound is the bound.
pub(crate) fn items(limit: u32) -> usize {
    let wanted = if limit == 0 { DEFAULT_ITEMS } else { limit.min(MAX_ITEMS) };
    usize::try_from(wanted).unwrap_or(1)
}

/// A page being filled.
#[derive(Debug)]
pub(crate) struct Page<T> {
    items: Vec<T>,
    most: usize,
    bytes: usize,
    more: bool,
}

impl<T: Message> Default for Page<T> {
    fn default() -> Self {
        Self::new(MAX_ITEMS)
    }
}

impl<T: Message> Page<T> {
    /// An empty page for as many items as the request asks.
    pub(crate) fn new(limit: u32) -> Self {
        Self { items: Vec::new(), most: items(limit), bytes: 0, more: false }
    }

    /// Takes the item, unless the page is full; the first always fits. `false`: not taken, and there is more.
    pub(crate) fn push(&mut self, item: T) -> bool {
        let bytes = item.encoded_len();
        let full = self.items.len() >= self.most || self.bytes + bytes > MAX_BYTES;
        if full && !self.items.is_empty() {
            self.more = true;
            return false;
        }
        self.bytes += bytes;
        self.items.push(item);
        true
    }

    /// How many more items it could take: read one more than this to learn whether there is more.
    pub(crate) fn room(&self) -> usize {
        self.most.saturating_sub(self.items.len())
    }

    /// The items, and whether there are more.
    pub(crate) fn finish(self) -> (Vec<T>, bool) {
        (self.items, self.more)
    }
}

#[cfg(test)]
mod tests {
    use berth_wire::metadata::Resource;

    use super::*;

    fn of(bytes: usize) -> Resource {
        Resource { r#type: String::new(), id: "x".repeat(bytes) }
    }

    #[test]
    fn limits_as_a_table() {
        for (asked, items_) in [(0, 500), (1, 1), (1000, 1000), (5000, 1000)] {
            assert_eq!(items(asked), items_);
        }
    }

    #[test]
    fn a_page_is_bounded_in_items() {
        let mut page = Page::new(2);
        assert!(page.push(of(1)) && page.push(of(1)) && !page.push(of(1)));
        let (items, more) = page.finish();
        assert_eq!((items.len(), more), (2, true));
    }

    #[test]
    fn a_page_is_bounded_in_bytes_but_takes_one() {
        let mut page = Page::new(0);
        assert!(page.push(of(MAX_BYTES * 2)));
        assert!(!page.push(of(1)));
        let mut page = Page::new(0);
        assert!(page.push(of(MAX_BYTES / 2)));
        assert!(!page.push(of(MAX_BYTES / 2)));
        assert!(page.finish().1);
    }
}
