//! Settings of many pulls at once, for services in processes of their own. In one process they follow the workers there.

/// How many jobs of all pulls together are handed to the workers. More than they can begin soon are not shared out fairly:
/// the queue takes them as they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pulls {
    /// Layers of less than 1 MiB fetched at once.
    pub small_downloads: usize,
    /// Other layers fetched at once: 8 for each fetcher.
    pub large_downloads: usize,
    /// Layers unpacked at once: the cores of all unpackers.
    pub unpacks: usize,
}

impl Default for Pulls {
    fn default() -> Self {
        // Four fetchers and four unpackers.
        Self { small_downloads: 128, large_downloads: 32, unpacks: 32 }
    }
}

impl Pulls {
    /// What is wrong with it.
    pub(crate) fn fault(&self) -> Option<String> {
        let all = [
            ("small_downloads", self.small_downloads),
            ("large_downloads", self.large_downloads),
            ("unpacks", self.unpacks),
        ];
        let wrong = all.iter().find(|(_, value)| !(1..=1024).contains(value));
        wrong.map(|(name, _)| format!("pulls.{name} must be 1 to 1024"))
    }
}
