//! Whose snapshots a request is about.
//!
//! A client of ours names a namespace and one of the snapshotters. A containerd that uses us as its snapshotter plugin has
//! namespaces of its own inside its keys, collects its own garbage, and asks for that without any namespace: whatever it
//! asks of the plugin `berth` (overlayfs) or `berth-NAME` is therefore kept in one namespace, as roots of our collection.

use berth_model::{Status, labels::Labels};
use tonic::Request;

use super::super::{
    Scope,
    plugin::{NAMESPACE, ROOT},
};
use crate::Backend;

/// What the plugin is called in containerd's `[proxy_plugins]`.
const PLUGIN: &str = "berth";
/// The snapshotter behind the plugin's plain name.
const USUAL: &str = "overlayfs";

/// Whose snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Home {
    pub(super) namespace: String,
    pub(super) snapshotter: String,
    /// Empty for none.
    pub(super) lease: String,
    plugin: bool,
}

impl Home {
    pub(super) fn of<T>(request: &Request<T>, snapshotter: &str) -> Result<Self, Status> {
        let plugin = match snapshotter.strip_prefix(PLUGIN) {
            Some("") => Some(USUAL),
            Some(rest) => rest.strip_prefix('-'),
            None => None,
        };
        if let Some(name) = plugin {
            let (namespace, snapshotter) = (NAMESPACE.to_owned(), name.to_owned());
            return Ok(Self { namespace, snapshotter, lease: String::new(), plugin: true });
        }
        let Scope { namespace, lease } = Scope::of(request)?;
        let snapshotter = snapshotter.to_owned();
        Ok(Self { namespace, snapshotter, lease: lease.unwrap_or_default(), plugin: false })
    }

    /// Labels as they are recorded.
    pub(super) fn stored(&self, mut labels: Labels) -> Labels {
        if self.plugin {
            labels.insert(ROOT.to_owned(), PLUGIN.to_owned());
        }
        labels
    }

    /// Labels as they are answered.
    pub(super) fn shown(&self, mut labels: Labels) -> Labels {
        if self.plugin {
            labels.remove(ROOT);
        }
        labels
    }

    /// Takes a snapshot off the request's lease.
    pub(super) async fn let_go(&self, backend: &Backend, key: &str) {
        if self.lease.is_empty() {
            return;
        }
        let scope = Scope { namespace: self.namespace.clone(), lease: Some(self.lease.clone()) };
        scope.let_go(backend, &format!("snapshots/{}", self.snapshotter), key).await;
    }
}

#[cfg(test)]
mod tests {
    use berth_model::Code;

    use super::*;

    #[test]
    fn plugins_are_told_from_clients() {
        let mut request = Request::new(());
        assert_eq!(Home::of(&request, "overlayfs").unwrap_err().code, Code::FailedPrecondition);
        let plugin = |request: &Request<()>, name: &str| {
            let home = Home::of(request, name).unwrap();
            (home.namespace, home.snapshotter, home.lease)
        };
        let owned = |texts: [&str; 3]| (texts[0].to_owned(), texts[1].to_owned(), texts[2].to_owned());
        assert_eq!(plugin(&request, "berth"), owned([NAMESPACE, "overlayfs", ""]));
        request.metadata_mut().insert("containerd-namespace", "k8s.io".parse().unwrap());
        request.metadata_mut().insert("containerd-lease", "l".parse().unwrap());
        assert_eq!(plugin(&request, "berth-native"), owned([NAMESPACE, "native", ""]));
        assert_eq!(plugin(&request, "native"), owned(["k8s.io", "native", "l"]));
        assert_eq!(plugin(&request, ""), owned(["k8s.io", "", "l"]));
    }

    #[test]
    fn what_a_plugin_keeps_is_a_root_and_does_not_say_so() {
        let home = Home::of(&Request::new(()), "berth").unwrap();
        let labels = Labels::from([("a".to_owned(), "b".to_owned())]);
        let stored = home.stored(labels.clone());
        assert_eq!(stored.len(), 2);
        assert_eq!(home.shown(stored), labels);
    }
}
