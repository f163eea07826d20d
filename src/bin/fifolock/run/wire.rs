//! What `fifolock` and the keeper of its command tell each other.
//!
//! They speak over a pair of sockets, of which the keeper has one as its standard input.
//! When one of them dies, however it does, the other one sees the end of the stream.

use std::io::{self, BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use super::processes;

/// What becomes of the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It was started, as this process and group.
    Started(Pid),
    /// It could not be started.
    NotStarted(String),
    /// By this signal.
    Stopped(i32),
    Continued,
    /// It ended, with this exit code.
    Ended(u8),
}

impl Change {
    pub(super) fn send(&self, mut to: impl Write) -> io::Result<()> {
        let line = match self {
            Self::Started(pid) => format!("started {pid}\n"),
            Self::NotStarted(why) => format!("not-started {}\n", why.replace('\n', " ")),
            Self::Stopped(signal) => format!("stopped {signal}\n"),
            Self::Continued => "continued \n".into(),
            Self::Ended(code) => format!("ended {code}\n"),
        };
        to.write_all(line.as_bytes())
    }

    fn parse(line: &str) -> Option<Self> {
        let (what, value) = line.split_once(' ')?;
        match what {
            "started" => processes::id(value).map(Self::Started),
            "not-started" => Some(Self::NotStarted(value.to_owned())),
            "stopped" => value.parse().ok().map(Self::Stopped),
            "continued" => Some(Self::Continued),
            "ended" => value.parse().ok().map(Self::Ended),
            _ => None,
        }
    }

    /// Those that arrive, until the end of the stream.
    pub(super) fn stream(from: UnixStream) -> impl Iterator<Item = Self> {
        let lines = BufReader::new(from).lines().map_while(Result::ok);
        lines.filter_map(|line| Self::parse(&line))
    }
}

/// When the keeper has to kill the command, if it is not told of a later time. On a clock
/// that all processes of the machine share and that counts suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Deadline(Duration);

impl Deadline {
    pub(super) fn after(span: Duration) -> Self {
        Self(now().saturating_add(span))
    }

    pub(super) fn remaining(self) -> Duration {
        self.0.saturating_sub(now())
    }

    fn encode(self) -> [u8; 8] {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        nanos.to_be_bytes()
    }

    fn decode(bytes: [u8; 8]) -> Self {
        Self(Duration::from_nanos(u64::from_be_bytes(bytes)))
    }

    /// Sends it; does not wait for a keeper that reads nothing.
    pub(super) fn send(self, to: &UnixStream) {
        let _ = rustix::net::send(to, &self.encode(), SendFlags::DONTWAIT);
    }

    /// Sends the first one, with the descriptor that is the command's standard input.
    pub(super) fn send_first(self, to: &UnixStream, input: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut extra = SendAncillaryBuffer::new(&mut space);
        let inputs = [input];
        extra.push(SendAncillaryMessage::ScmRights(&inputs));
        let bytes = self.encode();
        sendmsg(to, &[IoSlice::new(&bytes)], &mut extra, SendFlags::empty())?;
        Ok(())
    }

    pub(super) fn receive_first(from: &UnixStream) -> io::Result<(Self, OwnedFd)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut extra = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 8];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(from, &mut parts, &mut extra, RecvFlags::WAITALL)?;
        let input = extra.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut inputs) => inputs.next(),
            _ => None,
        });
        match input {
            Some(input) if received.bytes == bytes.len() => {
                fcntl_setfd(&input, FdFlags::CLOEXEC)?;
                Ok((Self::decode(bytes), input))
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// The deadlines that the keeper is told.
pub(super) struct Deadlines {
    from: UnixStream,
    rest: Vec<u8>,
}

impl Deadlines {
    pub(super) fn new(from: UnixStream) -> Self {
        let rest = Vec::new();
        Self { from, rest }
    }

    /// Waits for a new one, for no longer than `within`. An error is the other's end.
    pub(super) fn next(&mut self, within: Duration) -> io::Result<Option<Deadline>> {
        self.from.set_read_timeout(Some(within))?;
        let mut bytes = [0; 4096];
        match self.from.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.rest.extend_from_slice(&bytes[..count]),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => return Ok(None),
                _ => return Err(error),
            },
        }
        let (whole, rest) = self.rest.as_chunks::<8>();
        let newest = whole.last().map(|bytes| Deadline::decode(*bytes));
        self.rest = rest.to_vec();
        Ok(newest)
    }
}

fn now() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::Monotonic;
    let time = clock_gettime(CLOCK);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_told_arrives_and_so_does_the_end() {
        let (here, there) = UnixStream::pair().unwrap();
        let changes = [
            Change::Started(Pid::INIT),
            Change::NotStarted("two\nlines".into()),
            Change::Stopped(19),
            Change::Continued,
            Change::Ended(255),
        ];
        for change in &changes {
            change.send(&there).unwrap();
        }
        drop(there);
        let arrived: Vec<_> = Change::stream(here).collect();
        assert_eq!(arrived.len(), changes.len());
        assert_eq!(arrived[1], Change::NotStarted("two lines".into()));
        assert_eq!((&arrived[0], &arrived[2..]), (&changes[0], &changes[2..]));
    }

    #[test]
    fn the_keeper_goes_by_the_last_deadline_until_the_end() {
        let (here, there) = UnixStream::pair().unwrap();
        let hour = Deadline::after(Duration::from_secs(3600));
        let input = File::open("/dev/null").unwrap();
        hour.send_first(&here, input.as_fd()).unwrap();
        for _ in 0..2 {
            Deadline::after(Duration::ZERO).send(&here);
        }
        hour.send(&here);
        let (first, _input) = Deadline::receive_first(&there).unwrap();
        assert_eq!(first, hour);
        let mut deadlines = Deadlines::new(there);
        let within = Duration::from_secs(10);
        assert_eq!(deadlines.next(within).unwrap(), Some(hour));
        let short = Duration::from_millis(1);
        assert_eq!(deadlines.next(short).unwrap(), None);
        drop(here);
        assert!(deadlines.next(within).is_err());
    }

    #[test]
    fn a_keeper_that_reads_nothing_holds_up_nobody() {
        let (here, _there) = UnixStream::pair().unwrap();
        for _ in 0..10_000 {
            Deadline::after(Duration::ZERO).send(&here);
        }
    }
}
