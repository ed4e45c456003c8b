//! Every limit and every wait of the registry client, each with its reason.

use std::{net::SocketAddr, time::Duration};

/// How the client behaves. [`ClientOptions::default`] is right for registries on the Internet; tests make it faster.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// To connect, TLS included. A host that is down but routed answers nothing; 30 s is three SYN retries.
    pub connect_timeout: Duration,
    /// For a loopback host to answer a TLS hello. One that speaks HTTP may wait for the rest of a line that never comes.
    pub probe_timeout: Duration,
    /// From sending a request to the head of its answer. Caches that fetch the whole blob first need long.
    pub response_timeout: Duration,
    /// Longest silence within a body before it is opened anew. TCP alone would wait for many minutes.
    pub stall_timeout: Duration,
    /// While nothing arrives, the sink is called this often; content takes a writer for dead after 12 s of silence.
    pub sign_of_life: Duration,
    /// A body must bring [`ClientOptions::trickle_bytes`] in each such window, or it is opened anew.
    pub trickle_window: Duration,
    /// See [`ClientOptions::trickle_window`]; 64 KiB a minute is slower than any link worth pulling over.
    pub trickle_bytes: u64,
    /// Tries of one request, and tries to open a body without progress between them.
    pub attempts: usize,
    /// Tries when the connection is refused: nobody listens, and that rarely changes within seconds.
    pub refused_attempts: usize,
    /// The first pause between tries. It doubles, with jitter, so that many clients do not come back at once.
    pub backoff_min: Duration,
    /// The longest pause between tries.
    pub backoff_max: Duration,
    /// The first pause after 429 without `Retry-After`: coming back within milliseconds only prolongs the ban.
    pub throttled_min: Duration,
    /// The longest `Retry-After` that is waited for; when asked for more, the pull fails and says so.
    pub retry_after_max: Duration,
    /// A body that brought less than this and broke has made no progress: bounds the tries with a server that breaks
    /// after each byte.
    pub progress_bytes: u64,
    /// The largest manifest or index. The distribution spec has registries take at least 4 MiB.
    pub max_manifest_bytes: u64,
    /// Redirects of one request; browsers and Go stop at 10 or 20.
    pub max_redirects: usize,
    /// Downloads of large blobs at once. More connections than this do not make a link faster, and each takes a share
    /// from the layer that is needed first.
    pub large_downloads: usize,
    /// A blob of so many bytes is large; smaller ones overtake.
    pub large_bytes: u64,
    /// A server whose best answer took so long is far: large blobs come from it in pieces, by several connections. One of
    /// this machine must take three times that.
    pub far: Duration,
    /// Bytes of a piece. It takes several round trips of a fast link, and as many pieces as are ahead fit into memory.
    pub piece_bytes: u64,
    /// Pieces of one blob at once; 1: none are asked for. All count as large downloads, and half of the places for those
    /// stay free for who comes. While the last quarter of one comes it does not count any more, if that takes long. What
    /// came waits in memory for what came later, at most twice as many.
    pub pieces: usize,
    /// Round trips in which a new connection becomes fast: that long are the last bytes of a piece to come, for the next
    /// one to be asked for meanwhile.
    pub warm_up: u32,
    /// Bytes that are asked for at once while there is no place for a second connection, or after one broke.
    pub stretch_bytes: u64,
    /// HTTP/2 with servers that have it.
    pub http_2: bool,
    /// Bytes of one answer that may be under way by HTTP/2: what a fast link has under way in a long round trip.
    pub stream_window: u32,
    /// A connection that several requests share is asked for a sign of life after so long a silence, while any of them waits.
    pub ping_interval: Duration,
    /// Without an answer for so long it is given up, with all that wait for it; they are sent again by another.
    pub ping_timeout: Duration,
    /// Idle connections kept per host, and for how long: the layers of the next pull find them warm.
    pub idle_connections: usize,
    /// See [`ClientOptions::idle_connections`]; below the 60 s after which common load balancers hang up.
    pub idle_timeout: Duration,
    /// Host names with a fixed address, asked before the resolver. The port of the address is not used.
    pub static_hosts: Vec<(String, SocketAddr)>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            probe_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(30),
            sign_of_life: Duration::from_secs(3),
            trickle_window: Duration::from_secs(60),
            trickle_bytes: 64 << 10,
            attempts: 6,
            refused_attempts: 3,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            throttled_min: Duration::from_secs(1),
            retry_after_max: Duration::from_secs(60),
            progress_bytes: 64 << 10,
            max_manifest_bytes: 4 << 20,
            max_redirects: 10,
            large_downloads: 8,
            large_bytes: 1 << 20,
            far: Duration::from_millis(5),
            piece_bytes: 4 << 20,
            pieces: 4,
            warm_up: 3,
            stretch_bytes: 16 << 20,
            http_2: true,
            stream_window: 8 << 20,
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(15),
            idle_connections: 16,
            idle_timeout: Duration::from_secs(50),
            static_hosts: Vec::new(),
        }
    }
}
