//! Who may publish and hear what at the NATS server: one user for each service, with the subjects it needs and no others.
//!
//! What a service does is said in the bus's words ([`Role`]); what that takes in subjects is worked out here, beside the code
//! that uses them. The text is part of a nats-server's configuration.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use berth_model::Status;

use crate::subject::{Names, service_of};

/// What one service does on the bus.
#[derive(Clone, Debug, Default)]
pub struct Role {
    /// Its name, which is also the first part of the subjects it serves.
    pub name: &'static str,
    /// Subjects of the calls it makes; with `SERVICE.>` all of a service.
    pub calls: Vec<&'static str>,
    /// Kinds of the jobs it works on.
    pub works: Vec<&'static str>,
    /// Kinds of the jobs it submits.
    pub submits: Vec<&'static str>,
    /// Whether it publishes events.
    pub publishes: bool,
    /// Whether it reads events.
    pub subscribes: bool,
    /// Whether it looks after dead letters.
    pub undertakes: bool,
}

/// Subjects that a user may publish to and subscribe to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// `permissions.publish.allow`.
    pub publish: BTreeSet<String>,
    /// `permissions.subscribe.allow`; `SUBJECT QUEUE` is for that queue only.
    pub subscribe: BTreeSet<String>,
}

/// What each of `roles` is permitted, in their order. Who answers whose calls follows from all of them together.
pub fn permissions(prefix: &str, roles: &[Role]) -> Result<Vec<Permissions>, Status> {
    let names = Names::new(prefix)?;
    Ok(roles.iter().map(|role| of_role(&names, prefix, role, roles)).collect())
}

fn of_role(names: &Names, prefix: &str, role: &Role, roles: &[Role]) -> Permissions {
    let mut of = Permissions::default();
    of.hear(format!("{}.>", Names::inbox(prefix, role.name)));
    for subject in &role.calls {
        of.tell(names.call(subject));
        // Where a replica that is at work hears that nobody waits for it any more.
        of.tell(format!("{}.>", Names::inbox(prefix, service_of(subject))));
    }
    let callers = roles.iter().filter(|other| other.calls.iter().any(|subject| service_of(subject) == role.name));
    for caller in callers {
        of.hear(format!("{} {}", names.call(&format!("{}.>", role.name)), role.name));
        of.tell(format!("{}.>", Names::inbox(prefix, caller.name)));
    }
    let (jobs, events, dead) = (names.jobs_stream(), names.events_stream(), names.dead_stream());
    for kind in &role.works {
        let consumer = Names::consumer(kind);
        of.makes_stream(names, &jobs);
        of.makes_stream(names, &dead);
        of.both(names.making(&format!("{jobs}.{consumer}")));
        of.api(format!("CONSUMER.INFO.{jobs}.{consumer}"));
        of.api(format!("CONSUMER.CREATE.{jobs}.{consumer}.{}", names.job(kind)));
        of.api(format!("CONSUMER.MSG.NEXT.{jobs}.{consumer}"));
        of.tell(format!("$JS.ACK.{jobs}.{consumer}.>"));
        of.tell(names.job_reply(kind, "*"));
        of.tell(names.job_alive(kind));
        of.tell(names.dead(kind));
        of.hear(names.job_cancel(kind, "*"));
    }
    for kind in &role.submits {
        of.makes_stream(names, &jobs);
        of.api(format!("STREAM.MSG.GET.{jobs}"));
        of.api(format!("STREAM.MSG.DELETE.{jobs}"));
        of.tell(names.job(kind));
        of.tell(names.job_cancel(kind, "*"));
        of.hear(names.job_reply(kind, "*"));
        of.hear(names.job_alive(kind));
    }
    if role.publishes {
        of.makes_stream(names, &events);
        of.tell(names.event(">"));
        // How far behind those are who read them.
        of.api(format!("CONSUMER.LIST.{events}"));
    }
    if role.subscribes {
        // In the ways of all client libraries: older ones name a consumer elsewhere, and have inboxes below `_INBOX`, where
        // nobody else is permitted to listen.
        of.api(format!("STREAM.INFO.{events}"));
        of.api("STREAM.NAMES".to_owned());
        of.api(format!("CONSUMER.CREATE.{events}"));
        of.api(format!("CONSUMER.CREATE.{events}.>"));
        of.api(format!("CONSUMER.DURABLE.CREATE.{events}.*"));
        of.api(format!("CONSUMER.INFO.{events}.*"));
        of.api(format!("CONSUMER.DELETE.{events}.*"));
        of.api(format!("CONSUMER.MSG.NEXT.{events}.*"));
        of.tell(format!("$JS.ACK.{events}.>"));
        of.hear(names.event(">"));
        of.hear("_INBOX.>".to_owned());
    }
    if role.undertakes {
        of.makes_stream(names, &dead);
        of.makes_stream(names, &jobs);
        of.api(format!("STREAM.MSG.GET.{dead}"));
        of.api(format!("STREAM.MSG.DELETE.{dead}"));
        for kind in roles.iter().flat_map(|other| &other.works) {
            of.tell(names.job(kind));
            // How the queues stand.
            of.api(format!("CONSUMER.INFO.{jobs}.{}", Names::consumer(kind)));
            of.api(format!("STREAM.MSG.GET.{jobs}"));
            of.hear(names.job_alive(kind));
        }
    }
    of
}

impl Permissions {
    fn tell(&mut self, subject: String) {
        self.publish.insert(subject);
    }

    fn hear(&mut self, subject: String) {
        self.subscribe.insert(subject);
    }

    fn both(&mut self, subject: String) {
        self.tell(subject.clone());
        self.hear(subject);
    }

    /// A request to JetStream itself.
    fn api(&mut self, request: String) {
        self.tell(format!("$JS.API.{request}"));
    }

    /// Looks for a stream, and makes it if nobody else does.
    fn makes_stream(&mut self, names: &Names, stream: &str) {
        self.api(format!("STREAM.INFO.{stream}"));
        self.api(format!("STREAM.CREATE.{stream}"));
        self.both(names.making(stream));
    }
}

/// A key pair of a user: the seed, which proves who it is and is a secret, and the public key, by which the server knows it.
pub struct UserKey {
    /// `SU...`.
    pub seed: String,
    /// `U...`.
    pub public: String,
}

impl UserKey {
    /// A new one.
    pub fn generate() -> Result<Self, Status> {
        Self::of(&nkeys::KeyPair::new_user())
    }

    /// The one with this seed.
    pub fn from_seed(seed: &str) -> Result<Self, Status> {
        let pair = nkeys::KeyPair::from_seed(seed.trim()).map_err(|error| {
            Status::invalid_argument(format!("not the seed of a NATS key (SU...): {}", error.kind().as_str()))
        })?;
        Self::of(&pair)
    }

    fn of(pair: &nkeys::KeyPair) -> Result<Self, Status> {
        let seed =
            pair.seed().map_err(|error| Status::internal(format!("a key without seed: {}", error.kind().as_str())))?;
        Ok(Self { seed, public: pair.public_key() })
    }
}

/// The users as nats-server reads them: `users: [ ... ]`, for the account of this Berth.
pub fn users_conf(prefix: &str, roles: &[Role], public_keys: &[String]) -> Result<String, Status> {
    let mut text = String::from("users: [\n");
    for ((role, key), permissions) in roles.iter().zip(public_keys).zip(permissions(prefix, roles)?) {
        let list = |subjects: &BTreeSet<String>| {
            subjects.iter().fold(String::new(), |mut list, subject| {
                // Into a string: that cannot fail.
                let _written = writeln!(list, "        \"{subject}\"");
                list
            })
        };
        let _written = write!(
            text,
            "  # {}\n  {{ nkey: {key}, permissions: {{\n      publish: {{ allow: [\n{}      ] }}\n      subscribe: {{ allow: [\n{}      ] }}\n  }} }}\n",
            role.name,
            list(&permissions.publish),
            list(&permissions.subscribe),
        );
    }
    text.push_str("]\n");
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_gets_what_its_role_needs_and_nothing_of_others() {
        let roles = [
            Role { name: "baker", calls: vec!["mill.v1.Grind"], works: vec!["bake"], ..Role::default() },
            Role { name: "mill", ..Role::default() },
            Role { name: "shop", submits: vec!["bake"], ..Role::default() },
        ];
        let all = permissions("berth.a", &roles).unwrap();
        let [baker, mill, shop] = all.as_slice() else { panic!("{all:?}") };
        assert!(
            baker.publish.contains("berth.a.call.mill.v1.Grind") && baker.publish.contains("berth.a.jobreply.bake.*")
        );
        assert_eq!(mill.publish, BTreeSet::from(["berth.a.inbox.baker.>".to_owned()]));
        let heard = ["berth.a.call.mill.> mill", "berth.a.inbox.mill.>"].map(str::to_owned);
        assert_eq!(mill.subscribe, BTreeSet::from(heard));
        assert!(shop.publish.contains("berth.a.job.bake") && !shop.publish.contains("berth.a.jobreply.bake.*"));
        assert!(
            shop.subscribe.contains("berth.a.jobreply.bake.*") && !shop.subscribe.contains("berth.a.jobcancel.bake.*")
        );
    }

    #[test]
    fn a_key_is_known_by_its_seed() {
        let key = UserKey::generate().unwrap();
        assert_eq!(UserKey::from_seed(&format!("{}\n", key.seed)).unwrap().public, key.public);
        assert!(UserKey::from_seed("SUx").is_err());
    }
}
