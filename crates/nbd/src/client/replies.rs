// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What a client waits for, and the thread that fetches it: simple replies and structured ones.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::ClientError;
use crate::export::{Errno, Extent};
use crate::protocol::{
    BASE_ALLOCATION_ID, CHUNK_BLOCK_STATUS, CHUNK_BYTES, CHUNK_DATA, CHUNK_ERR, CHUNK_ERROR_OFFSET,
    CHUNK_FLAG_DONE, CHUNK_HOLE, CHUNK_MAGIC, CHUNK_NONE, CMD_READ, ChunkHeader, MAX_REQUEST_BYTES,
    RequestHeader, SIMPLE_REPLY_BYTES, STATE_HOLE, STATE_ZERO, decode_simple_reply, u16_at, u32_at,
    u64_at,
};

/// Most payload of a chunk.
const MAX_PAYLOAD_BYTES: u32 = MAX_REQUEST_BYTES + (1 << 20);

/// An error of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteError {
    /// The number.
    pub errno: Errno,
    /// The server's own words; anything.
    pub message: String,
    /// The first byte of the export it is about.
    pub offset: Option<u64>,
}

/// What came of a read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// All that was asked for; where nothing came, zeros that mean nothing.
    pub data: Vec<u8>,
    /// The bytes of the export that came, ascending, neighbours joined.
    pub good: Vec<Range<u64>>,
    /// What did not.
    pub errors: Vec<RemoteError>,
}

/// Everything that was answered to a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    data: Vec<u8>,
    /// Places in `data` that came.
    came: Vec<Range<usize>>,
    errors: Vec<RemoteError>,
    extents: Vec<Extent>,
}

impl Answer {
    pub fn into_data(self) -> Result<Vec<u8>, ClientError> {
        match self.errors.first() {
            Some(error) => Err(ClientError::Remote(error.errno)),
            None => Ok(self.data),
        }
    }

    pub fn into_extents(self) -> Result<Vec<Extent>, ClientError> {
        match self.errors.first() {
            Some(error) => Err(ClientError::Remote(error.errno)),
            None => Ok(self.extents),
        }
    }

    pub fn into_pieces(mut self, offset: u64) -> Pieces {
        self.came.sort_by_key(|range| range.start);
        let mut good: Vec<Range<u64>> = Vec::new();
        for range in self.came {
            let (start, end) = (offset + range.start as u64, offset + range.end as u64);
            match good.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => good.push(start..end),
            }
        }
        Pieces { data: self.data, good, errors: self.errors }
    }

    /// The place of `len` bytes at `offset` in the request, if they belong there and are new.
    fn place(&mut self, asked: &RequestHeader, offset: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(offset.checked_sub(asked.offset)?).ok()?;
        let range = start..start.checked_add(len)?;
        let new = |came: &Range<usize>| range.end <= came.start || came.end <= range.start;
        let fits = len > 0 && range.end <= self.data.len() && self.came.iter().all(new);
        fits.then(|| {
            self.came.push(range.clone());
            range
        })
    }

    fn is_whole(&self) -> bool {
        self.came.iter().map(Range::len).sum::<usize>() == self.data.len()
    }
}

struct Waiting {
    asked: RequestHeader,
    named: bool,
    answer: Answer,
}

type Ended = Result<Answer, ClientError>;

#[derive(Default)]
struct State {
    last_cookie: u64,
    /// Requests without a last answer.
    waiting: HashMap<u64, Waiting>,
    /// Answers somebody is waiting for by name.
    named: HashMap<u64, Ended>,
    /// Answers for [`Shared::next_completed`], oldest first.
    unnamed: VecDeque<(u64, Ended)>,
    lost: Option<String>,
}

/// What the callers and the fetching thread share.
pub(super) struct Shared {
    control: Box<dyn crate::transport::Control>,
    state: Mutex<State>,
    arrived: Condvar,
}

impl Shared {
    pub fn new(control: Box<dyn crate::transport::Control>) -> Shared {
        Shared { control, state: Mutex::default(), arrived: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn close(&self) {
        self.control.close();
    }

    pub fn under_way(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Gives a request its cookie and waits for its answer from now on.
    pub fn begin(&self, header: &mut RequestHeader, named: bool) -> Result<(), ClientError> {
        let mut state = self.lock();
        if let Some(why) = &state.lost {
            return Err(ClientError::Lost { why: why.clone() });
        }
        state.last_cookie += 1;
        header.cookie = state.last_cookie;
        let waiting = Waiting { asked: *header, named, answer: Answer::default() };
        state.waiting.insert(header.cookie, waiting);
        Ok(())
    }

    pub fn wait(&self, cookie: u64) -> Ended {
        let mut state = self.lock();
        loop {
            if let Some(result) = state.named.remove(&cookie) {
                return result;
            }
            if let Some(at) = state.unnamed.iter().position(|(c, _)| *c == cookie) {
                return state.unnamed.remove(at).map_or(Ok(Answer::default()), |(_, ended)| ended);
            }
            match state.waiting.get_mut(&cookie) {
                Some(waiting) => waiting.named = true,
                None => return Err(ClientError::NotUnderWay),
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn next_completed(&self) -> Option<(u64, Ended)> {
        let mut state = self.lock();
        loop {
            if let Some(completed) = state.unnamed.pop_front() {
                return Some(completed);
            }
            if !state.waiting.values().any(|w| !w.named) {
                return None;
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Drops a request that was not sent as a whole, so that nobody is told of it twice.
    pub fn forget(&self, cookie: u64) {
        let mut state = self.lock();
        state.waiting.remove(&cookie);
        state.named.remove(&cookie);
        state.unnamed.retain(|(c, _)| *c != cookie);
        self.arrived.notify_all();
    }

    /// Fetches replies until the connection ends, then ends everything that waits.
    pub fn fetch(&self, reader: &mut dyn Read) {
        let why = loop {
            if let Err(why) = self.fetch_one(reader) {
                break why;
            }
        };
        self.control.close();
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        for (cookie, waiting) in waiting {
            let error = ClientError::Lost { why: why.clone() };
            complete(&mut state, cookie, waiting.named, Err(error));
        }
        state.lost = Some(why);
        self.arrived.notify_all();
    }

    fn fetch_one(&self, reader: &mut dyn Read) -> Result<(), String> {
        let mut head = [0; SIMPLE_REPLY_BYTES];
        reader.read_exact(&mut head).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed it".to_string(),
            _ => error.to_string(),
        })?;
        if u32_at(&head, 0) == CHUNK_MAGIC {
            return self.fetch_chunk(reader, &head);
        }
        let Some((cookie, error)) = decode_simple_reply(&head) else {
            return Err("the server sent something that is no reply".to_string());
        };
        let mut waiting = self.take(cookie)?;
        if error == 0 {
            let read = waiting.asked.command == CMD_READ;
            let mut data = vec![0; if read { waiting.asked.len as usize } else { 0 }];
            reader.read_exact(&mut data).map_err(|error| error.to_string())?;
            let all = 0..data.len();
            waiting.answer = Answer { data, came: vec![all], ..Answer::default() };
            self.end(cookie, waiting.named, Ok(waiting.answer));
        } else {
            let remote = ClientError::Remote(number(error));
            self.end(cookie, waiting.named, Err(remote));
        }
        Ok(())
    }

    /// Takes what waits out of the table, for the time in which its answer is fetched.
    fn take(&self, cookie: u64) -> Result<Waiting, String> {
        let waiting = self.lock().waiting.get_mut(&cookie).map(|waiting| Waiting {
            asked: waiting.asked,
            named: waiting.named,
            answer: std::mem::take(&mut waiting.answer),
        });
        waiting.ok_or_else(|| "the server answered what was not asked".to_string())
    }

    fn end(&self, cookie: u64, named: bool, ended: Ended) {
        let mut state = self.lock();
        let named = state.waiting.remove(&cookie).map_or(named, |waiting| waiting.named);
        complete(&mut state, cookie, named, ended);
        self.arrived.notify_all();
    }

    fn fetch_chunk(
        &self,
        reader: &mut dyn Read,
        first: &[u8; SIMPLE_REPLY_BYTES],
    ) -> Result<(), String> {
        let mut head = [0; CHUNK_BYTES];
        let (begin, rest) = head.split_at_mut(SIMPLE_REPLY_BYTES);
        begin.copy_from_slice(first);
        reader.read_exact(rest).map_err(|error| error.to_string())?;
        let head = ChunkHeader::decode(&head);
        if head.len > MAX_PAYLOAD_BYTES {
            return Err(format!("the server sent a chunk of {} bytes", head.len));
        }
        let mut waiting = self.take(head.cookie)?;
        let mut payload = vec![0; head.len as usize];
        reader.read_exact(&mut payload).map_err(|error| error.to_string())?;
        let taken = take_chunk(&waiting.asked, &mut waiting.answer, head.kind, &payload);
        taken.ok_or_else(|| {
            format!("the server sent a chunk of kind {:#x} that is wrong", head.kind)
        })?;
        if head.flags & CHUNK_FLAG_DONE == 0 {
            if let Some(known) = self.lock().waiting.get_mut(&head.cookie) {
                known.answer = waiting.answer;
            }
            return Ok(());
        }
        let answer = waiting.answer;
        let read = waiting.asked.command == CMD_READ;
        if read && answer.errors.is_empty() && !answer.is_whole() {
            return Err("the server left something of a read out".to_string());
        }
        self.end(head.cookie, waiting.named, Ok(answer));
        Ok(())
    }
}

fn number(error: u32) -> Errno {
    Errno(i32::try_from(error).unwrap_or(Errno::EIO.0))
}

/// Adds a chunk to its answer; `None` if it breaks the rules.
fn take_chunk(asked: &RequestHeader, answer: &mut Answer, kind: u16, payload: &[u8]) -> Option<()> {
    let read = asked.command == CMD_READ;
    if read && answer.data.is_empty() {
        answer.data = vec![0; asked.len as usize];
    }
    match kind {
        CHUNK_NONE => payload.is_empty().then_some(()),
        CHUNK_DATA if read => {
            let (offset, data) = payload.split_at_checked(8)?;
            let place = answer.place(asked, u64_at(offset, 0), data.len())?;
            answer.data.get_mut(place)?.copy_from_slice(data);
            Some(())
        }
        CHUNK_HOLE if read && payload.len() == 12 => {
            answer.place(asked, u64_at(payload, 0), u32_at(payload, 8) as usize).map(drop)
        }
        CHUNK_BLOCK_STATUS if payload.len() >= 12 && payload.len() % 8 == 4 => {
            if u32_at(payload, 0) != BASE_ALLOCATION_ID {
                return None;
            }
            let both = STATE_HOLE | STATE_ZERO;
            let extents = payload.get(4..)?.chunks_exact(8);
            answer.extents.extend(
                extents.map(|e| Extent { len: u32_at(e, 0), hole: u32_at(e, 4) & both == both }),
            );
            Some(())
        }
        error if error & CHUNK_ERR != 0 && payload.len() >= 6 => {
            let (head, rest) = payload.split_at_checked(6)?;
            let (message, rest) = rest.split_at_checked(usize::from(u16_at(head, 4)))?;
            let with_offset = error == CHUNK_ERROR_OFFSET && rest.len() == 8;
            answer.errors.push(RemoteError {
                errno: number(u32_at(head, 0)),
                message: String::from_utf8_lossy(message).into_owned(),
                offset: with_offset.then(|| u64_at(rest, 0)),
            });
            Some(())
        }
        _ => None,
    }
}

fn complete(state: &mut State, cookie: u64, named: bool, ended: Ended) {
    if named {
        state.named.insert(cookie, ended);
    } else {
        state.unnamed.push_back((cookie, ended));
    }
}
