//! Answers that are no success: what the registry said, and what a person can do about it.

use berth_model::{Code, Status};
use http::StatusCode;

use crate::errand::Errand;

/// Characters of the registry's own words that are passed on.
const SHOWN: usize = 200;

/// An answer that is no success. `host` is who gave it; `body` its first few kilobytes.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) host: String,
    pub(crate) body: Vec<u8>,
}

impl Refusal {
    /// What a caller is told.
    pub(crate) fn status(&self, errand: &Errand<'_>) -> Status {
        let (code, remedy) = self.meaning(errand);
        let (host, status) = (&self.host, self.status.as_u16());
        let said = match self.words() {
            Some(words) => format!(" ({words})"),
            None => String::new(),
        };
        Status::new(code, format!("{errand}: {host} answered {status}{said}; {remedy}"))
    }

    fn meaning(&self, errand: &Errand<'_>) -> (Code, String) {
        let user = errand.access.credentials.as_ref();
        match self.status.as_u16() {
            404 => (
                Code::NotFound,
                match user {
                    Some(user) => {
                        format!("it does not exist, or {} may not see it: check the name and the tag", user.shown())
                    }
                    None => {
                        "it does not exist, or is private: check the name and the tag, or give --user NAME[:PASSWORD]"
                            .to_owned()
                    }
                },
            ),
            403 => (
                Code::PermissionDenied,
                match user {
                    Some(user) => format!("{} has no right to pull it", user.shown()),
                    None => "it may need credentials: give --user NAME[:PASSWORD]".to_owned(),
                },
            ),
            401 => (Code::Unauthenticated, "give --user NAME[:PASSWORD]".to_owned()),
            429 => (
                Code::ResourceExhausted,
                match user {
                    Some(_) => "its rate limit is used up: try again later".to_owned(),
                    None => {
                        "its rate limit is used up: try again later, or give --user NAME[:PASSWORD] for a higher one"
                            .to_owned()
                    }
                },
            ),
            400 if self.says_https() => {
                (Code::FailedPrecondition, "it speaks HTTPS: leave --plain-http away".to_owned())
            }
            400 => (Code::InvalidArgument, "check the name and the tag".to_owned()),
            408 | 425 | 500 | 502..=504 | 506.. => {
                (Code::Unavailable, "it seems to be in trouble: try again later".to_owned())
            }
            200..=299 => (Code::FailedPrecondition, "that is not what was asked for".to_owned()),
            _ => (Code::FailedPrecondition, "check that this is a registry".to_owned()),
        }
    }

    /// Go's servers say so to those who speak HTTP to them.
    fn says_https(&self) -> bool {
        String::from_utf8_lossy(&self.body).contains("HTTP request to an HTTPS server")
    }

    /// The registry's words: `errors[].code: message` of the distribution spec, else plain text; pages of HTML say
    /// nothing that helps.
    fn words(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<Item>,
        }
        #[derive(serde::Deserialize)]
        struct Item {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let text = match serde_json::from_slice::<Errors>(&self.body) {
            Ok(Errors { errors }) => errors
                .iter()
                .map(|item| match (item.code.as_str(), item.message.as_str()) {
                    (code, "") => code.to_owned(),
                    ("", message) => message.to_owned(),
                    (code, message) => format!("{code}: {message}"),
                })
                .collect::<Vec<_>>()
                .join("; "),
            Err(_other) => String::from_utf8_lossy(&self.body).into_owned(),
        };
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        if text.starts_with('<') {
            return Some("with a web page; is something between here and the registry?".to_owned());
        }
        let shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        Some(if text.chars().count() > SHOWN { format!("{shown}…") } else { shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{access::Access, errand::Object};

    fn said(status: u16, body: &str, access: &Access) -> Status {
        let reference = "quay.io/a/b:v1".parse().unwrap();
        let errand = Errand { reference: &reference, access, object: Object::Target };
        Refusal {
            status: StatusCode::from_u16(status).unwrap(),
            host: "quay.io:443".to_owned(),
            body: body.as_bytes().to_vec(),
        }
        .status(&errand)
    }

    #[test]
    fn says_who_what_and_the_remedy() {
        let anonymous = Access::default();
        let user = Access::with_user("me", "x", false);
        let missing = said(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such tag"}]}"#, &anonymous);
        assert_eq!(missing.code, Code::NotFound);
        for part in ["quay.io/a/b:v1", "404", "MANIFEST_UNKNOWN: no such tag", "--user"] {
            assert!(missing.message.contains(part), "{missing}");
        }
        assert!(said(403, "", &user).message.contains("user me"));
        assert_eq!(said(403, "", &user).code, Code::PermissionDenied);
        assert_eq!(said(503, "", &user).code, Code::Unavailable);
        assert_eq!(said(429, "", &user).code, Code::ResourceExhausted);
        assert!(said(400, "Client sent an HTTP request to an HTTPS server.", &user).message.contains("--plain-http"));
    }

    #[test]
    fn long_words_and_pages_are_cut() {
        let anonymous = Access::default();
        assert!(said(403, &"x".repeat(5000), &anonymous).message.len() < 500);
        let page = said(502, "<html><body>secret corporate login</body></html>", &anonymous);
        assert!(page.message.contains("web page") && !page.message.contains("corporate"), "{page}");
    }
}
