//! A slow link: a relay between whoever pulls and a registry, that lets bytes through at a rate and lets each wait.
//!
//! It is made to be like what `tc netem` makes of a link, in one program: many kernels have no netem, and no network of the
//! machine is touched. All connections share the rate, as one interface. Each is open after a round trip, begins with ten
//! segments, and may have as much more under way as has arrived, up to 4 MiB, as TCP does in its slow start (RFC 5681) where
//! nothing is lost. A connection may also have a rate of its own, as storage hosts and CDNs give it.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    str::FromStr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

const CHUNK: usize = 32 << 10;
const FIRST_WINDOW: usize = 14_600;
const LARGEST_WINDOW: usize = 4 << 20;

/// What a link is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shape {
    megabits: f64,
    round_trip: Duration,
    /// The most of each connection, in each direction.
    each_megabits: Option<f64>,
}

impl FromStr for Shape {
    type Err = String;

    /// `1gbit,20ms,100mbit`: the rate, the time there and back, and the rate of each connection, which may be left out.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is no link; write its rate, its round trip, and the most of each connection if there is such a \
                 bound, like 1gbit,20ms or 1gbit,20ms,100mbit"
            )
        };
        let mut parts = text.split(',');
        let megabits = parts.next().and_then(megabits).ok_or_else(wrong)?;
        let millis = parts.next().and_then(|time| time.strip_suffix("ms")?.parse().ok()).ok_or_else(wrong)?;
        let each_megabits = parts.next().map(|rate| self::megabits(rate).ok_or_else(wrong)).transpose()?;
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(Self { megabits, round_trip: Duration::from_millis(millis), each_megabits })
    }
}

/// `1gbit`, `200mbit`.
fn megabits(rate: &str) -> Option<f64> {
    let (number, factor) = match (rate.strip_suffix("gbit"), rate.strip_suffix("mbit")) {
        (Some(number), _) => (number, 1000.0),
        (_, Some(number)) => (number, 1.0),
        _ => return None,
    };
    let number = number.parse::<f64>().ok()?;
    (number.is_finite() && number > 0.0).then_some(number * factor)
}

impl Shape {
    /// A link and its name; `loopback` is none.
    pub(crate) fn named(name: &str) -> Result<(&str, Option<Self>), String> {
        if name == "loopback" { Ok((name, None)) } else { name.parse().map(|shape| (name, Some(shape))) }
    }
}

/// A relay. It listens until the program ends.
pub(crate) struct Link {
    host: String,
}

impl Link {
    /// Before the registry at `host:port`.
    pub(crate) fn before(registry: &str, shape: Shape) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("listen on the loopback")?;
        let host = listener.local_addr()?.to_string();
        let (registry, free) = (registry.to_owned(), [Arc::default(), Arc::default()]);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let joined = client.and_then(|client| Ok((TcpStream::connect(&registry)?, client)));
                let [up, down] = &free;
                match joined {
                    Ok((server, client)) => {
                        let open = Instant::now() + shape.round_trip;
                        one_way(&client, &server, shape, up, open);
                        one_way(&server, &client, shape, down, open);
                    }
                    Err(error) => eprintln!("the link to {registry}: {error}"),
                }
            }
        });
        Ok(Self { host })
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

/// When the link has sent all that it was given.
type Free = Arc<Mutex<Option<Instant>>>;

/// How far a connection that had to wait for this program may catch up.
const LATE: Duration = Duration::from_millis(5);

/// The bound of one connection in one direction.
struct Bound {
    megabits: f64,
    free: Option<Instant>,
}

impl Bound {
    /// When so many bytes may begin to pass, and when they have.
    fn pass(&mut self, bytes: usize, now: Instant) -> (Instant, Instant) {
        let begun = self.free.map_or(now, |free| free.max(now.checked_sub(LATE).unwrap_or(now)));
        let gone = begun + Duration::from_secs_f64(bytes as f64 * 8.0 / (self.megabits * 1e6));
        self.free = Some(gone);
        (begun, gone)
    }
}

/// Of one connection in one direction.
#[derive(Default)]
struct Flight {
    /// Not yet arrived: when, and what.
    sent: VecDeque<(Instant, Vec<u8>)>,
    /// Arrived, and the sender does not know yet: when it will, and how much.
    arrived: VecDeque<(Instant, usize)>,
    bytes: usize,
    over: bool,
}

struct Way {
    flight: Mutex<Flight>,
    changed: Condvar,
}

impl Way {
    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing is sent before the connection is open.
fn one_way(from: &TcpStream, to: &TcpStream, shape: Shape, free: &Free, open: Instant) {
    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
    let _at_once = (from.set_nodelay(true), to.set_nodelay(true));
    let way = Arc::new(Way { flight: Mutex::default(), changed: Condvar::new() });
    let (sending, free) = (Arc::clone(&way), Arc::clone(free));
    std::thread::spawn(move || {
        // A connection that breaks ends for both, as on a real link.
        let _ended = send(&from, &sending, shape, &free, open);
        sending.flight().over = true;
        sending.changed.notify_all();
    });
    std::thread::spawn(move || {
        let _ended = receive(&to, &way, shape.round_trip / 2);
        let _gone_already = to.shutdown(Shutdown::Write);
        way.flight().over = true;
        way.changed.notify_all();
    });
}

fn send(mut from: &TcpStream, way: &Way, shape: Shape, free: &Free, open: Instant) -> io::Result<()> {
    let mut window = FIRST_WINDOW;
    let mut bound = shape.each_megabits.map(|megabits| Bound { megabits, free: None });
    loop {
        let mut chunk = vec![0; CHUNK];
        let read = from.read(&mut chunk)?;
        if read == 0 {
            return Ok(());
        }
        chunk.truncate(read);
        let mut flight = way.flight();
        loop {
            let now = Instant::now();
            while let Some((_, bytes)) = flight.arrived.pop_front_if(|(at, _)| *at <= now) {
                flight.bytes -= bytes;
                window = LARGEST_WINDOW.min(window + bytes);
            }
            if flight.bytes == 0 || flight.bytes + read <= window.max(CHUNK) {
                break;
            }
            if flight.over {
                return Ok(());
            }
            let next = flight.arrived.front().map(|(at, _)| at.duration_since(now));
            let patience = next.unwrap_or(Duration::from_secs(1));
            flight = way.changed.wait_timeout(flight, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(flight);
        // Before it takes a place among all others, so that those go on meanwhile.
        let bounded = bound.as_mut().map(|bound| {
            let (begun, gone) = bound.pass(read, Instant::now());
            // sleeps: a connection has no more than its rate.
            std::thread::sleep(begun.saturating_duration_since(Instant::now()));
            gone
        });
        let gone = {
            let mut free = free.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let begun = free.filter(|free| *free > now).unwrap_or(now);
            let gone = begun + Duration::from_secs_f64(read as f64 * 8.0 / (shape.megabits * 1e6));
            *free = Some(gone);
            gone
        };
        let gone = bounded.map_or(gone, |bounded| gone.max(bounded));
        let mut flight = way.flight();
        flight.bytes += read;
        flight.sent.push_back((gone.max(open) + shape.round_trip / 2, chunk));
        drop(flight);
        way.changed.notify_all();
    }
}

fn receive(mut to: &TcpStream, way: &Way, back: Duration) -> io::Result<()> {
    loop {
        let mut flight = way.flight();
        let (at, chunk) = loop {
            if let Some(next) = flight.sent.pop_front() {
                break next;
            }
            if flight.over {
                return Ok(());
            }
            flight = way.changed.wait(flight).unwrap_or_else(PoisonError::into_inner);
        };
        drop(flight);
        // sleeps: a chunk is on its way for so long.
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        to.write_all(&chunk)?;
        let mut flight = way.flight();
        flight.arrived.push_back((Instant::now() + back, chunk.len()));
        drop(flight);
        way.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_links() {
        let shape: Shape = "1gbit,20ms".parse().unwrap();
        assert_eq!(shape, Shape { megabits: 1000.0, round_trip: Duration::from_millis(20), each_megabits: None });
        assert_eq!("200mbit,40ms".parse::<Shape>().unwrap().megabits, 200.0);
        assert_eq!("1gbit,20ms,100mbit".parse::<Shape>().unwrap(), Shape { each_megabits: Some(100.0), ..shape });
        for wrong in [
            "",
            "fast",
            "1gbit",
            "1gbit,20",
            "-1mbit,1ms",
            "infmbit,1ms",
            "1tbit,1ms",
            "1gbit,1ms,",
            "1gbit,1ms,1ms",
            "1gbit,1ms,1mbit,1mbit",
        ] {
            assert!(wrong.parse::<Shape>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_connection_catches_up_with_what_it_was_late_and_not_with_what_it_was_idle() {
        let mut bound = Bound { megabits: 8.0, free: None };
        let (start, millis) = (Instant::now(), Duration::from_millis);
        let mut pass = |at: u64| {
            let (begun, gone) = bound.pass(10_000, start + millis(at));
            (begun.duration_since(start), gone.duration_since(start))
        };
        // 10 kB at 8 Mbit/s are 10 ms.
        assert_eq!(pass(0), (millis(0), millis(10)));
        assert_eq!(pass(1), (millis(10), millis(20)));
        assert_eq!(pass(23), (millis(20), millis(30)));
        assert_eq!(pass(1000), (millis(995), millis(1005)));
    }

    /// How long so many connections take, all at once, to get `sent` each through a link.
    fn fetch(shape: &str, connections: usize, sent: &Arc<Vec<u8>>) -> Duration {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let link = Link::before(&server.local_addr().unwrap().to_string(), shape.parse().unwrap()).unwrap();
        let whole = Arc::clone(sent);
        std::thread::spawn(move || {
            for client in server.incoming() {
                let (mut client, whole) = (client.unwrap(), Arc::clone(&whole));
                std::thread::spawn(move || {
                    let mut question = [0; 3];
                    client.read_exact(&mut question).unwrap();
                    client.write_all(&whole).unwrap();
                });
            }
        });
        let begun = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..connections {
                scope.spawn(|| {
                    let mut stream = TcpStream::connect(link.host()).unwrap();
                    stream.write_all(b"get").unwrap();
                    let mut got = Vec::new();
                    stream.read_to_end(&mut got).unwrap();
                    assert!(got == **sent);
                });
            }
        });
        begun.elapsed()
    }

    fn bytes(count: u32) -> Arc<Vec<u8>> {
        Arc::new((0..count).map(|n| (n >> 3) as u8).collect())
    }

    #[test]
    fn bytes_come_whole_and_not_too_early() {
        // 1 MB at 80 Mbit/s is 0.1 s; and there is the way there and back, twice, for the connection is made first.
        let took = fetch("80mbit,20ms", 1, &bytes(1_000_000));
        assert!(took >= Duration::from_millis(140), "{took:?}");
    }

    #[test]
    fn each_connection_has_its_bound_and_all_share_the_link() {
        // 0.1 s by the bound of each, where the link could do it in 1 ms.
        let took = fetch("8gbit,0ms,80mbit", 2, &bytes(1_000_000));
        assert!(took >= Duration::from_millis(95), "{took:?}");
        // 0.1 s by what all share, where each could do it in 25 ms.
        let took = fetch("80mbit,0ms,80mbit", 4, &bytes(250_000));
        assert!(took >= Duration::from_millis(95), "{took:?}");
    }

    /// A busy machine may stop it for a while, but not each time.
    fn reaches(shape: &str, connections: usize, sent: &Arc<Vec<u8>>, most: Duration) {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|took| *took > most) {
            assert!(seen.len() < 20, "never within {most:?}: {seen:?}");
            seen.push(fetch(shape, connections, sent));
        }
    }

    #[test]
    fn a_link_and_a_connection_reach_their_rates() {
        // 0.2 s by what all share, with a window that grows first; and by the bound of each. Half as much again is too slow.
        reaches("80mbit,0ms", 1, &bytes(2_000_000), Duration::from_millis(300));
        reaches("80mbit,10ms", 4, &bytes(500_000), Duration::from_millis(300));
        reaches("8gbit,0ms,80mbit", 2, &bytes(2_000_000), Duration::from_millis(300));
    }
}
