//! Who may talk to the socket: its mode, owner and group.

use berth_model::Status;
use nix::unistd::{Gid, Group, Uid, User};

/// Mode, owner and group of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub(crate) mode: u32,
    /// Unless given, they are those of this process.
    pub(crate) owner: Option<u32>,
    pub(crate) group: Option<u32>,
}

impl Default for Access {
    /// For this user and its group.
    fn default() -> Self {
        Self { mode: 0o660, owner: None, group: None }
    }
}

impl Access {
    /// From settings: the mode in octal digits, names or numbers of owner and group; what is empty stays as it is.
    pub fn parse(mode: &str, owner: &str, group: &str) -> Result<Self, Status> {
        let usual = Self::default();
        let mode = match mode {
            "" => usual.mode,
            text => u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "the socket's mode {text:?} is none: write it as chmod has it, as 0660"
                ))
            })?,
        };
        let owner = id("owner", owner, |name| Ok(User::from_name(name)?.map(|user| user.uid.as_raw())))?;
        let group = id("group", group, |name| Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())))?;
        Ok(Self { mode, owner, group })
    }

    /// As chown(2) takes them.
    pub(crate) fn ids(&self) -> (Option<Uid>, Option<Gid>) {
        (self.owner.map(Uid::from_raw), self.group.map(Gid::from_raw))
    }
}

fn id(what: &str, text: &str, find: impl Fn(&str) -> nix::Result<Option<u32>>) -> Result<Option<u32>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = text.parse() {
        return Ok(Some(number));
    }
    match find(text) {
        Ok(Some(found)) => Ok(Some(found)),
        Ok(None) => Err(Status::invalid_argument(format!("the socket's {what} {text:?} is not known on this machine"))),
        Err(error) => Err(Status::internal(format!("look the socket's {what} {text:?} up: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_as_a_table() {
        for (mode, owner, group, expected) in [
            ("", "", "", Some((0o660, None, None))),
            ("0666", "0", "7", Some((0o666, Some(0), Some(7)))),
            ("600", "root", "root", Some((0o600, Some(0), Some(0)))),
            ("0o660", "", "", None),
            ("1777", "", "", None),
            ("rw", "", "", None),
            ("", "no such user", "", None),
            ("", "", "no such group", None),
        ] {
            let found = Access::parse(mode, owner, group).ok();
            let expected = expected.map(|(mode, owner, group)| Access { mode, owner, group });
            assert_eq!(found, expected, "{mode} {owner} {group}");
        }
    }
}
