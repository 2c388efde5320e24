// SPDX-License-Identifier: GPL-2.0-only OR MIT
use std::io::Write;
use std::os::unix::net::UnixStream;

use super::*;
use crate::link::Credits;
use crate::transport::Transport;

#[test]
fn the_deadline_holds_until_it_is_lifted_and_leaves_no_timeout_behind() {
    let (near, mut far) = UnixStream::pair().unwrap();
    let same = near.try_clone().unwrap();
    let Transport { reader, control, .. } = Transport::unix(near);
    let link = Arc::new(Link::new(Credits { requests: 1, bytes: 0 }, control));
    let deadline = Some(Instant::now() + Duration::from_millis(5));
    let mut timed = Timed { reader, link, deadline, wire: None };
    far.write_all(b"ab").unwrap();
    let mut byte = [0];
    timed.read_exact(&mut byte).unwrap();
    assert!(same.read_timeout().unwrap().is_some());
    timed.read_exact(&mut byte).unwrap();
    let late = timed.read(&mut byte).unwrap_err().kind();
    assert!(matches!(late, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{late}");
    // Past it nothing is read, even if something is there.
    far.write_all(b"c").unwrap();
    timed.deadline = Some(Instant::now());
    assert_eq!(timed.read(&mut byte).unwrap_err().kind(), io::ErrorKind::TimedOut);
    timed.lift_deadline();
    assert_eq!(same.read_timeout().unwrap(), None);
    timed.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"c");
}

/// Takes a few bytes at a time and is interrupted now and then.
struct Slow {
    taken: Vec<u8>,
    calls: usize,
}

impl Write for Slow {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.calls += 1;
        match self.calls % 3 {
            0 => Err(io::ErrorKind::Interrupted.into()),
            1 => Err(io::ErrorKind::WouldBlock.into()),
            _ => {
                let n = buf.len().min(7);
                self.taken.extend_from_slice(&buf[..n]);
                Ok(n)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outgoing for Slow {}

#[test]
fn replies_are_sent_whole_however_little_the_stream_takes_at_a_time() {
    let (near, _far) = UnixStream::pair().unwrap();
    let control = Transport::unix(near).control;
    let link = Arc::new(Link::new(Credits { requests: 9, bytes: 0 }, control));
    let mut expected = Vec::new();
    for cookie in 0..5_u64 {
        let data = vec![cookie as u8; 13 * cookie as usize];
        let mut credit = link.admit(data.len() as u64).unwrap();
        link.begin(&mut credit).unwrap();
        let read = (cookie > 0).then_some((0, data.len() as u32));
        let done = link.done(Asked { cookie, read, structured: false, whole: false }, credit);
        expected.extend(crate::protocol::encode_simple_reply(cookie, 0));
        expected.extend(&data);
        done(crate::Reply::good(Buffer::from(&data[..])));
    }
    let batch = link.next_batch();
    assert_eq!(link.owed(), 5);
    let mut slow = Slow { taken: Vec::new(), calls: 0 };
    send(&mut slow, &batch, &link).unwrap();
    assert_eq!(slow.taken, expected);
    link.sent(batch, expected.len());
    assert_eq!(link.owed(), 0);
    // With the last word said there is no patience.
    link.drain();
    let credit = link.admit(0);
    assert!(credit.is_none() && link.closed() && !link.patient());
}

/// Takes three bytes without waiting, and everything from who waits.
#[derive(Clone, Default)]
struct Narrow {
    taken: Arc<Mutex<Vec<u8>>>,
    /// How many bytes each way.
    ways: Arc<Mutex<[usize; 2]>>,
}

impl Write for Narrow {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.taken.lock().unwrap().extend_from_slice(buf);
        self.ways.lock().unwrap()[1] += buf.len();
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Outgoing for Narrow {
    fn send_now(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(first) = slices.first() else { return Ok(0) };
        let n = first.len().min(3);
        self.taken.lock().unwrap().extend_from_slice(&first[..n]);
        self.ways.lock().unwrap()[0] += n;
        Ok(n)
    }
}

#[test]
fn what_the_reader_cannot_send_at_once_the_writer_sends_from_that_byte_on() {
    let (near, _far) = UnixStream::pair().unwrap();
    let control = Transport::unix(near).control;
    let link = Arc::new(Link::new(Credits { requests: 500, bytes: 0 }, control));
    let narrow = Narrow::default();
    let stream: Box<dyn Outgoing> = Box::new(narrow.clone());
    let wire = Wire { link: Arc::clone(&link), stream: Arc::new(Mutex::new(stream)) };
    let writing = wire.clone();
    let writer = thread::spawn(move || writing.send_until_closed());
    let mut expected = Vec::new();
    for cookie in 0..200_u64 {
        let data = vec![cookie as u8; 1 + 11 * cookie as usize];
        let mut credit = link.admit(data.len() as u64).unwrap();
        link.begin(&mut credit).unwrap();
        let read = Some((0, data.len() as u32));
        let done = link.done(Asked { cookie, read, structured: false, whole: false }, credit);
        expected.extend(crate::protocol::encode_simple_reply(cookie, 0));
        expected.extend(&data);
        done(crate::Reply::good(Buffer::from(&data[..])));
        wire.send_if_enough();
        if cookie % 7 == 0 {
            wire.send_now();
        }
    }
    link.drain();
    writer.join().unwrap();
    assert!(*narrow.taken.lock().unwrap() == expected);
    let [now, later] = *narrow.ways.lock().unwrap();
    assert!(now > 0 && later > 0 && now + later == expected.len(), "{now} {later}");
    assert_eq!(link.owed(), 0);
}
