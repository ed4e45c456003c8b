//! What makes a message a call, a job or an event: it names its own subject, and nobody else spells one.

use prost::Message;

/// A request that names its subject and its reply.
pub trait Call: Message + Default + Send + Sync + 'static {
    /// `SERVICE.v1.Method`, below the prefix of the deployment. Its first part is the queue group: replicas share the calls.
    const SUBJECT: &'static str;
    /// What comes back.
    type Reply: Message + Default + Send + Sync + 'static;
}

/// Work that is done at least once, by any worker of its kind.
pub trait Job: Message + Default + Clone + Send + Sync + 'static {
    /// The name of the work queue.
    const KIND: &'static str;
    /// What a worker reports while it runs; the latest counts.
    type Progress: Message + Default + Clone + Send + Sync + 'static;
    /// What a finished job answers.
    type Outcome: Message + Default + Clone + Send + Sync + 'static;
    /// The idempotency key: equal keys are equal work.
    fn key(&self) -> String;
    /// It takes next to nothing of a worker, which may take several such jobs in the place of one.
    fn is_small(&self) -> bool {
        false
    }
}
