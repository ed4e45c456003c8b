//! The messages of the suite.

use berth_bus::{Call, Job};

/// Asks for something by number; `what` chooses what the handler does.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Ask {
    #[prost(string, tag = "1")]
    pub(crate) what: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) filling: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Told {
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) filling: Vec<u8>,
}

impl Call for Ask {
    const SUBJECT: &'static str = "oracle.v1.Ask";
    type Reply = Told;
}

/// Waits for news.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchNews {}

impl Call for WatchNews {
    const SUBJECT: &'static str = "oracle.v1.WatchNews";
    type Reply = Told;
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Count {
    #[prost(uint32, tag = "1")]
    pub(crate) to: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Counted {
    #[prost(uint32, tag = "1")]
    pub(crate) at: u32,
}

/// Counting from here on is a small job,
pub(crate) const SMALL: u32 = 1_000_000;
/// and from here on none any more.
pub(crate) const BIG: u32 = 2_000_000;

impl Job for Count {
    const KIND: &'static str = "count";
    type Progress = Counted;
    type Outcome = Counted;
    fn key(&self) -> String {
        self.to.to_string()
    }
    fn is_small(&self) -> bool {
        (SMALL..BIG).contains(&self.to)
    }
}

pub(crate) fn ask(what: &str) -> Ask {
    Ask { what: what.to_owned(), filling: Vec::new() }
}

pub(crate) fn told(text: &str) -> Told {
    Told { text: text.to_owned(), filling: Vec::new() }
}

/// A job that takes room.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Filled {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) filling: Vec<u8>,
}

impl Filled {
    pub(crate) fn of(size: usize) -> Self {
        Self { filling: vec![7; size] }
    }
}

impl Job for Filled {
    const KIND: &'static str = "filled";
    type Progress = Counted;
    type Outcome = Counted;
    fn key(&self) -> String {
        "filled".to_owned()
    }
}
