//! Subjects: which are well-formed, which a filter matches, and how every subject and name of a deployment is spelled.

use berth_model::Status;

/// Whether `filter` matches `subject`, by NATS's rules: `*` stands for one token, a final `>` for one or more.
pub(crate) fn matches(filter: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    let mut wanted = filter.split('.').peekable();
    while let Some(want) = wanted.next() {
        if want == ">" && wanted.peek().is_none() {
            return tokens.next().is_some();
        }
        match tokens.next() {
            Some(token) if want == "*" || want == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

/// Refuses what is not a subject: empty tokens, blanks, wildcards.
pub(crate) fn check_subject(subject: &str) -> Result<(), Status> {
    let well_formed = |token: &str| is_token(token) && token != "*" && token != ">";
    if subject.split('.').all(well_formed) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{subject:?} is not a subject: it needs non-empty parts between dots, without blanks or wildcards"
    )))
}

/// Refuses what is not a filter: like a subject, with `*` for any one part and `>` for the rest.
pub(crate) fn check_filter(filter: &str) -> Result<(), Status> {
    let rest_is_last = filter.split('.').rev().skip(1).all(|token| token != ">");
    if rest_is_last && filter.split('.').all(is_token) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "{filter:?} is not a subject filter: `*` stands for one part, `>` for the rest and only at the end"
    )))
}

fn is_token(token: &str) -> bool {
    !token.is_empty() && !token.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// The longest prefix: names of streams and consumers are file names at the server.
const LONGEST_PREFIX: usize = 100;
/// What follows a prefix. None of them may be a part of one: the subjects of `a` and of `a.job` would overlap.
const VERBS: [&str; 9] = ["call", "job", "jobreply", "jobcancel", "jobalive", "dead", "making", "events", "inbox"];

/// The spelling of everything that belongs to one deployment on a shared server.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    /// Names below `prefix`. Two prefixes never share a subject, nor a stream's name: that has `_` where the prefix has
    /// dots, and no part has one.
    pub(crate) fn new(prefix: &str) -> Result<Self, Status> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = |part: &str| !part.is_empty() && part.chars().all(plain);
        if prefix.len() > LONGEST_PREFIX || !prefix.split('.').all(good) {
            return Err(Status::invalid_argument(format!(
                "the bus prefix {prefix:?} may hold lower-case letters, digits and `-`, in parts between dots (berth.prod.node-7), \
                 {LONGEST_PREFIX} characters at most"
            )));
        }
        if let Some(verb) = prefix.split('.').find(|part| VERBS.contains(part)) {
            return Err(Status::invalid_argument(format!(
                "the bus prefix {prefix:?} has the part `{verb}`, which berth uses itself; choose another word"
            )));
        }
        Ok(Self { prefix: prefix.to_owned() })
    }

    /// Where answers to a service arrive; a user is permitted to listen below its own only.
    pub(crate) fn inbox(prefix: &str, role: &str) -> String {
        format!("{prefix}.inbox.{role}")
    }

    /// The part of a stream's or consumer's name that stands for the prefix.
    fn stream(&self, what: &str) -> String {
        format!("{}_{what}", self.prefix.replace('.', "_").to_uppercase())
    }

    pub(crate) fn call(&self, subject: &str) -> String {
        format!("{}.call.{subject}", self.prefix)
    }

    pub(crate) fn job(&self, kind: &str) -> String {
        format!("{}.job.{kind}", self.prefix)
    }

    /// Where the submitter of a job listens. The kind is in it so that workers of other kinds cannot speak for this one.
    pub(crate) fn job_reply(&self, kind: &str, id: &str) -> String {
        format!("{}.jobreply.{kind}.{id}", self.prefix)
    }

    pub(crate) fn job_cancel(&self, kind: &str, id: &str) -> String {
        format!("{}.jobcancel.{kind}.{id}", self.prefix)
    }

    pub(crate) fn job_alive(&self, kind: &str) -> String {
        format!("{}.jobalive.{kind}", self.prefix)
    }

    /// Where those who would make a stream or a consumer tell one another.
    pub(crate) fn making(&self, name: &str) -> String {
        format!("{}.making.{name}", self.prefix)
    }

    pub(crate) fn jobs_stream(&self) -> String {
        self.stream("JOBS")
    }

    pub(crate) fn consumer(kind: &str) -> String {
        kind.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_', "_")
    }

    /// Where jobs go that workers gave up on.
    pub(crate) fn dead(&self, kind: &str) -> String {
        format!("{}.dead.{kind}", self.prefix)
    }

    pub(crate) fn dead_stream(&self) -> String {
        self.stream("DEAD")
    }

    pub(crate) fn event(&self, subject: &str) -> String {
        format!("{}.events.{subject}", self.prefix)
    }

    pub(crate) fn below_events<'a>(&self, subject: &'a str) -> Option<&'a str> {
        subject.strip_prefix(self.prefix.as_str())?.strip_prefix(".events.")
    }

    pub(crate) fn events_stream(&self) -> String {
        self.stream("EVENTS")
    }
}

/// The service a call's subject belongs to, which is also the queue group its replicas share.
pub(crate) fn service_of(subject: &str) -> &str {
    subject.split('.').next().unwrap_or(subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_match_as_nats_does() {
        for (filter, subject, expected) in [
            ("a.b.c", "a.b.c", true),
            ("a.b.c", "a.b", false),
            ("a.b", "a.b.c", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("a.*", "a.b.c", false),
            ("*", "a", true),
            ("*.*", "a", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*.>", "a.b.c.d", true),
            ("a.*.>", "a.b", false),
            ("a.b*", "a.bc", false),
        ] {
            assert_eq!(matches(filter, subject), expected, "{filter} on {subject}");
        }
    }

    #[test]
    fn subjects_and_filters_are_checked() {
        for (text, subject, filter) in [
            ("a.b", true, true),
            ("a", true, true),
            ("", false, false),
            ("a..b", false, false),
            ("a.b c", false, false),
            ("a.*", false, true),
            (">", false, true),
            ("a.>", false, true),
            (">.a", false, false),
        ] {
            assert_eq!(check_subject(text).is_ok(), subject, "subject {text:?}");
            assert_eq!(check_filter(text).is_ok(), filter, "filter {text:?}");
        }
    }

    #[test]
    fn names_are_spelled_below_the_prefix() {
        let names = Names::new("berth").unwrap();
        assert_eq!(names.call("content.v1.Info"), "berth.call.content.v1.Info");
        assert_eq!(names.jobs_stream(), "BERTH_JOBS");
        assert_eq!(names.below_events("berth.events.default.images.create"), Some("default.images.create"));
        assert_eq!(names.below_events("other.events.x"), None);
        assert_eq!(Names::consumer("fetch.v1"), "fetch_v1");
        assert_eq!(service_of("content.v1.Info"), "content");
        let names = Names::new("berth.prod.node-7").unwrap();
        assert_eq!(names.job("fetch"), "berth.prod.node-7.job.fetch");
        assert_eq!(names.events_stream(), "BERTH_PROD_NODE-7_EVENTS");
        assert_eq!(names.below_events("berth.prod.node-7.events.a"), Some("a"));
        let long = "a".repeat(LONGEST_PREFIX + 1);
        for bad in ["", "a..b", ".a", "a.", "a b", "a*", "a.>", "A", "a_b", "a.job", "events", &long] {
            assert!(Names::new(bad).is_err(), "{bad:?}");
        }
    }
}
