// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The byte streams a connection can run over, and what can be done to one from another thread.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, sendmsg};

/// What other threads may do to a stream while its reader and writer sleep in it.
pub(crate) trait Control: Send + Sync {
    /// A read that waits longer fails with `WouldBlock`. Streams that cannot do it ignore it.
    fn set_read_timeout(&self, timeout: Option<Duration>);
    /// A write that makes no progress for so long fails with `WouldBlock`, where possible.
    fn set_write_timeout(&self, timeout: Option<Duration>);
    /// Ends the stream in both directions and wakes whoever sleeps in it, where possible.
    fn close(&self);
}

/// The sending half of a stream.
pub(crate) trait Outgoing: Write + Send {
    /// Sends what can be sent without waiting: `WouldBlock` if that is nothing, and always where
    /// the stream cannot tell.
    fn send_now(&mut self, _slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

/// A stream cut into its parts.
pub(crate) struct Transport {
    pub reader: Box<dyn Read + Send>,
    pub writer: Box<dyn Outgoing>,
    pub control: Box<dyn Control>,
}

impl Transport {
    pub fn unix(stream: UnixStream) -> Transport {
        let shared = Arc::new(stream);
        Transport {
            reader: Box::new(Eager { socket: Arc::clone(&shared), tries: 0 }),
            writer: Box::new(Shared(Arc::clone(&shared))),
            control: Box::new(Shared(shared)),
        }
    }

    pub fn tcp(stream: TcpStream) -> Transport {
        // Without it small replies wait for the client's delayed acknowledgements. A failure costs
        // speed only.
        let _ = stream.set_nodelay(true);
        let shared = Arc::new(stream);
        Transport {
            reader: Box::new(Eager { socket: Arc::clone(&shared), tries: 0 }),
            writer: Box::new(Shared(Arc::clone(&shared))),
            control: Box::new(Shared(shared)),
        }
    }

    /// Any two halves. Nothing can wake a thread that sleeps in one of them.
    pub fn pair(reader: Box<dyn Read + Send>, writer: Box<dyn Write + Send>) -> Transport {
        Transport { reader, writer: Box::new(Half(writer)), control: Box::new(NoControl) }
    }

    /// Two file descriptors, pipes for instance. The reader can be woken, a writer that sleeps in a
    /// full pipe cannot.
    pub fn files(reader: OwnedFd, writer: OwnedFd) -> io::Result<Transport> {
        let (wake, woken) = UnixStream::pair()?;
        Ok(Transport {
            reader: Box::new(WokenReader { file: File::from(reader), woken }),
            writer: Box::new(Half(Box::new(File::from(writer)))),
            control: Box::new(Wake(wake)),
        })
    }
}

struct Shared<S>(Arc<S>);

/// Looks at most so often before it goes to sleep, giving the processor away in between.
const MOST_TRIES: u32 = 48;
/// A client that sends again within this time is looked out for the next time.
const SOON: Duration = Duration::from_micros(200);

/// The receiving half. A client that waits for each answer sends its next request a moment later,
/// and to be put to sleep and woken for that takes longer than the request does. So the reader
/// looks a few times before it sleeps, as long as that has proved to be worth it.
struct Eager<S> {
    socket: Arc<S>,
    tries: u32,
}

impl<S> Read for Eager<S>
where
    S: AsFd,
    for<'a> &'a S: Read,
{
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        for _ in 0..self.tries {
            match recv(&*self.socket, &mut *buf, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(errno) => return Err(errno.into()),
                Ok((count, _)) => {
                    self.tries = MOST_TRIES;
                    return Ok(count);
                }
            }
        }
        let asleep = Instant::now();
        let result = (&*self.socket).read(buf);
        self.tries = if asleep.elapsed() < SOON { MOST_TRIES } else { self.tries / 2 };
        result
    }
}

impl<S> Write for Shared<S>
where
    for<'a> &'a S: Write,
{
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self.0).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self.0).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        (&*self.0).flush()
    }
}

impl<S> Outgoing for Shared<S>
where
    S: AsFd + Send + Sync,
    for<'a> &'a S: Write,
{
    fn send_now(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(sendmsg(&*self.0, slices, &mut SendAncillaryBuffer::default(), flags)?)
    }
}

/// Anything that can be written to.
struct Half(Box<dyn Write + Send>);

impl Write for Half {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Outgoing for Half {}

// A failure of what follows means that the socket is gone already, and the next read or write will
// say so.
impl Control for Shared<UnixStream> {
    fn set_read_timeout(&self, timeout: Option<Duration>) {
        let _ = self.0.set_read_timeout(timeout);
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) {
        let _ = self.0.set_write_timeout(timeout);
    }

    fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

impl Control for Shared<TcpStream> {
    fn set_read_timeout(&self, timeout: Option<Duration>) {
        let _ = self.0.set_read_timeout(timeout);
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) {
        let _ = self.0.set_write_timeout(timeout);
    }

    fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

struct NoControl;

impl Control for NoControl {
    fn set_read_timeout(&self, _timeout: Option<Duration>) {}
    fn set_write_timeout(&self, _timeout: Option<Duration>) {}
    fn close(&self) {}
}

struct Wake(UnixStream);

impl Control for Wake {
    fn set_read_timeout(&self, _timeout: Option<Duration>) {}
    fn set_write_timeout(&self, _timeout: Option<Duration>) {}

    fn close(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// Reads a file descriptor until the other end of `woken` is shut down. It waits in poll and never
/// sets `O_NONBLOCK`: that would change the descriptor for every process that shares it.
struct WokenReader {
    file: File,
    woken: UnixStream,
}

impl Read for WokenReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let (data, woken) = wait_readable(&self.file, &self.woken)?;
            if woken {
                return Ok(0);
            }
            if data {
                return self.file.read(buf);
            }
        }
    }
}

/// Waits until one of the two can be read (or has ended); which.
pub(crate) fn wait_readable(a: &impl AsFd, b: &impl AsFd) -> io::Result<(bool, bool)> {
    let mut fds = [PollFd::new(a, PollFlags::IN), PollFd::new(b, PollFlags::IN)];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
}
