//! Looks at what mounts show. Plain directories are looked at where they are; anything else is mounted read-only where
//! nobody else sees it, and is gone when the look is over, however it ends.

use std::{
    fs,
    path::{Path, PathBuf},
};

use berth_model::{Code, Status};
use berth_wire::types::Mount;

use crate::layout::Scratch;

/// What some mounts show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The directories shown one over the other, newest first, where that is known.
    pub layers: Option<Vec<PathBuf>>,
    mounts: Vec<Mount>,
}

impl View {
    /// Of these mounts. UNIMPLEMENTED: owners that are shown otherwise than they are stored.
    pub fn of(mounts: &[Mount]) -> Result<Self, Status> {
        refuse_mapped(mounts)?;
        Ok(Self { layers: berth_mount::layers(mounts), mounts: mounts.to_vec() })
    }

    /// Where to look without mounting; no mounts show an empty directory.
    fn plain(&self, empty: &Path) -> Option<PathBuf> {
        match self.layers.as_deref() {
            Some([]) => Some(empty.to_owned()),
            Some([only]) => Some(only.clone()),
            _ => None,
        }
    }

    /// The mounts to look through: an overlay without its upper directory as such, so that it may be mounted elsewhere.
    fn read_only(&self) -> Vec<Mount> {
        let (Some(layers), [mount]) = (&self.layers, self.mounts.as_slice()) else { return self.mounts.clone() };
        if mount.r#type != "overlay" {
            return self.mounts.clone();
        }
        let dirs: Vec<String> = layers.iter().map(|dir| dir.display().to_string()).collect();
        let kept = mount.options.iter().filter(|option| option.as_str() == "userxattr").cloned();
        let options = std::iter::once(format!("lowerdir={}", dirs.join(":"))).chain(kept).collect();
        vec![Mount { options, ..mount.clone() }]
    }
}

/// We mount nothing whose owners are mapped.
pub fn refuse_mapped(mounts: &[Mount]) -> Result<(), Status> {
    let mapped = |option: &String| option.starts_with("uidmap=") || option.starts_with("gidmap=");
    if mounts.iter().any(|mount| mount.options.iter().any(mapped)) {
        return Err(Status::new(
            Code::Unimplemented,
            "mounts whose owners are mapped (uidmap=, gidmap=) are not supported here; give the mounts of a snapshot \
             without these labels",
        ));
    }
    Ok(())
}

/// Has `look` see what two sets of mounts show, each below a directory.
pub fn both<R: Send>(
    lower: &View,
    upper: &View,
    scratch: &Scratch,
    look: impl FnOnce(&Path, &Path) -> Result<R, Status> + Send,
) -> Result<R, Status> {
    let make = |name: &str| {
        let path = scratch.path().join(name);
        fs::create_dir(&path).map_err(|error| Status::io("make directory", &path, &error))?;
        Ok::<_, Status>(path)
    };
    let (at_lower, at_upper) = (make("lower")?, make("upper")?);
    if let (Some(lower), Some(upper)) = (lower.plain(&at_lower), upper.plain(&at_upper)) {
        return look(&lower, &upper);
    }
    let seen = berth_mount::in_private_namespace(|| {
        let show = |view: &View, at: &Path| match view.plain(at) {
            Some(plain) => Ok(plain),
            None => berth_mount::all(&view.read_only(), at).map(|()| at.to_owned()).map_err(|error| failed(&error)),
        };
        look(&show(lower, &at_lower)?, &show(upper, &at_upper)?)
    });
    seen.map_err(|error| failed(&error))?
}

/// As a status.
pub(crate) fn failed(error: &berth_mount::Error) -> Status {
    use berth_mount::Error;
    let code = match error {
        Error::Mount { .. } => Code::FailedPrecondition,
        Error::InUse(_) | Error::Unmount { .. } | Error::Thread { .. } => Code::Internal,
        Error::TooLong(_) => Code::Unimplemented,
    };
    Status::new(code, error.to_string())
}
