// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Random bytes against the server, the same ones every time.
//!
//! Invariants checked: every session ends; whatever the client sends, what the server sends is
//! well-formed from the first byte to the last; in the transmission phase it is, byte for byte,
//! what a simple model of the export answers to the requests that arrived whole; the export ends up
//! with the model's content, and is never handed a request that it did not announce (the export's
//! own assertions and slices).

mod common;

use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex};

use common::raw::{
    BLOCK_STATUS, CACHE, Chunk, DF, DISC, FLUSH, FUA, READ, REQ_ONE, Says, TRIM, WRITE,
    WRITE_ZEROES, go_data, meta_data, option_bytes,
};
use common::{Memory, Random, config, info};
use dmremap_nbd::{End, ExportInfo, MAX_REQUEST_BYTES, Server};

const SIZE: u64 = 64 << 10;
const BLOCK: u32 = 512;
const SESSIONS: u64 = 3000;

fn export() -> ExportInfo {
    ExportInfo { size_bytes: SIZE, block_bytes: BLOCK, ..info() }
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the server sends to a client that sends `input` and leaves.
fn session(memory: &Memory, input: Vec<u8>) -> (Vec<u8>, End) {
    let server = Server::new(Arc::new(memory.clone()), config()).unwrap();
    let output = Output::default();
    let end = server.serve_pair(Cursor::new(input), output.clone());
    let (opened, closed) = memory.handles();
    assert_eq!(opened, closed);
    let sent = output.0.lock().unwrap().clone();
    (sent, end)
}

#[test]
fn random_negotiations() {
    let mut chosen = 0;
    for seed in 0..SESSIONS {
        let mut random = Random::new(seed);
        let input = negotiation(&mut random);
        let (sent, end) = session(&Memory::with(export()), input);
        assert!(!matches!(end, End::Closed | End::Refused), "seed {seed}: {end:?}");
        chosen += u64::from(assert_well_formed(&sent, seed));
    }
    println!("{chosen} of {SESSIONS} random negotiations reached the transmission phase");
    assert!(chosen > SESSIONS / 20, "the generator has become too wild: {chosen}");
}

/// Options, mostly recognisable.
fn negotiation(random: &mut Random) -> Vec<u8> {
    let flags = if random.below(10) == 0 { random.next() as u32 } else { random.below(4) as u32 };
    let mut out = flags.to_be_bytes().to_vec();
    for _ in 0..random.below(8) {
        let option = match random.below(4) {
            0 => random.below(13) as u32,
            1 => 6 + random.below(2) as u32,
            2 => 8 + random.below(3) as u32,
            _ => random.next() as u32,
        };
        let len = random.below(40) as usize;
        let name: &[u8] = if random.below(2) == 0 { b"disk" } else { b"" };
        let data = match random.below(8) {
            0 => random.bytes(len),
            1 => go_data(b"", &[random.below(5) as u16]),
            2 => go_data(b"disk", &[3, random.next() as u16]),
            3 => go_data(&random.bytes(len), &[]),
            4 => meta_data(name, &[&b"base:allocation"[..]; 70][..random.below(70) as usize]),
            5 => meta_data(name, &[b"base:", &random.bytes(len), b""]),
            6 => name.to_vec(),
            _ => Vec::new(),
        };
        let mut bytes = option_bytes(option, &data);
        if random.below(4) == 0 {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.next() as u8;
        }
        out.extend(bytes);
    }
    if random.below(2) == 0 {
        out.extend(random.bytes(30));
    }
    out
}

/// Whether an export was chosen.
fn assert_well_formed(sent: &[u8], seed: u64) -> bool {
    let mut rest = sent.strip_prefix(b"NBDMAGICIHAVEOPT\0\x03").expect("a greeting");
    while !rest.is_empty() {
        let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
        if matches!(rest.len(), 10 | 134) && rest[..8] != magic {
            // The answer to EXPORT_NAME, which is no reply like others.
            assert_eq!(rest[..8], SIZE.to_be_bytes(), "seed {seed}");
            assert_eq!(rest[9] & 1, 1, "seed {seed}");
            assert!(rest[10..].iter().all(|b| *b == 0), "seed {seed}");
            return true;
        }
        assert_eq!(rest[..8], magic, "seed {seed}");
        let option = u32::from_be_bytes(rest[8..12].try_into().unwrap());
        let kind = u32::from_be_bytes(rest[12..16].try_into().unwrap());
        let len = u32::from_be_bytes(rest[16..20].try_into().unwrap()) as usize;
        rest = &rest[20 + len..];
        let known =
            [1, 2, 3, 4, 0x8000_0001, 0x8000_0003, 0x8000_0006, 0x8000_0009].contains(&kind);
        assert!(known, "seed {seed}: {kind:#x}");
        if option == 7 && kind == 1 {
            // The 30 bytes behind are no request.
            assert!(rest.is_empty(), "seed {seed}");
            return true;
        }
    }
    false
}

#[test]
fn random_requests_are_answered_as_the_model_does() {
    random_requests(false);
}

#[test]
fn random_requests_are_answered_as_the_model_does_in_structured_replies() {
    random_requests(true);
}

fn random_requests(structured: bool) {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..SESSIONS {
        let mut random = Random::new(seed ^ (1 << 40));
        let mut input = 3_u32.to_be_bytes().to_vec();
        if structured {
            input.extend(option_bytes(8, b""));
            input.extend(option_bytes(10, &meta_data(b"disk", &[b"base:allocation"])));
        }
        input.extend(option_bytes(7, &go_data(b"disk", &[3])));
        let memory = Memory::with(export());
        let greeting = session(&memory, input.clone()).0;

        let mut model = Model { content: vec![0; SIZE as usize], answers: Vec::new() };
        let mut left = None;
        for _ in 0..random.below(40) {
            let request = Request::random(&mut random);
            let error = request.error(structured);
            let whole = request.bytes();
            if random.below(100) == 0 {
                // Cut off inside the request, or at its start.
                let len = random.below(whole.len() as u64) as usize;
                input.extend(&whole[..len]);
                left = Some("cut");
                break;
            }
            input.extend(whole);
            if request.command == DISC {
                // Nothing behind it is looked at.
                input.extend(random.bytes(50));
                left = Some("disc");
                break;
            }
            model.answer(&request, error);
            if error == 0 { good += 1 } else { bad += 1 }
        }
        if left.is_none() && random.below(2) == 0 {
            // No request begins with these.
            input.extend([0; 28]);
            left = Some("garbage");
        }
        let (sent, end) = session(&memory, input);
        let sent = sent.strip_prefix(&greeting[..]).expect("the same greeting");
        let answers = model.check(sent, structured);
        assert!(answers.is_none(), "seed {seed} ({left:?}): {}", answers.unwrap_or_default());
        assert!(memory.content(0, SIZE as usize) == model.content, "seed {seed}: content");
        match (left, &end) {
            (Some("disc"), End::Disconnected) => {}
            (Some("garbage"), End::Broken(_)) => {}
            (Some("cut"), End::Left | End::Stream(_)) => {}
            (None, End::Left) => {}
            _ => panic!("seed {seed}: {left:?} ended as {end:?}"),
        }
    }
    println!("{good} good and {bad} bad requests in {SESSIONS} sessions");
    assert!(good > SESSIONS && bad > SESSIONS, "{good} {bad}");
}

struct Request {
    flags: u16,
    command: u16,
    cookie: u64,
    offset: u64,
    len: u32,
    fill: u8,
}

impl Request {
    fn random(random: &mut Random) -> Request {
        let command = match random.below(20) {
            0..6 => READ,
            6..12 => WRITE,
            12..14 => TRIM,
            14..16 => WRITE_ZEROES,
            16 => [FLUSH, CACHE, BLOCK_STATUS][random.below(3) as usize],
            17 if random.below(4) == 0 => DISC,
            17 | 18 => random.below(10) as u16,
            _ => random.next() as u16,
        };
        let flags = match random.below(6) {
            0 => 1 << random.below(16),
            1 => FUA,
            2 if command == READ => DF,
            2 if command == BLOCK_STATUS => REQ_ONE,
            _ => 0,
        };
        let blocks = SIZE / u64::from(BLOCK);
        let offset = match random.below(12) {
            0 => random.next(),
            1 => random.below(SIZE),
            2 => u64::MAX - random.below(4096),
            _ => random.below(blocks + 1) * u64::from(BLOCK),
        };
        let len = match random.below(12) {
            0 => random.below(4096) as u32,
            1 if command != WRITE => random.next() as u32,
            2 => (MAX_REQUEST_BYTES + BLOCK) * u32::from(command != WRITE),
            _ => (1 + random.below(8) as u32) * BLOCK,
        };
        let flush = command == FLUSH && random.below(3) != 0;
        let (offset, len) = if flush { (0, 0) } else { (offset, len) };
        Request { flags, command, cookie: random.next(), offset, len, fill: random.next() as u8 }
    }

    fn bytes(&self) -> Vec<u8> {
        let Request { flags, command, cookie, offset, len, fill } = *self;
        let mut out = common::raw::request_bytes(flags, command, cookie, offset, len);
        if command == WRITE {
            out.extend(vec![fill; len as usize]);
        }
        out
    }

    /// The error the specification asks for, told in another order than the server tells it.
    fn error(&self, structured: bool) -> u32 {
        let len = u64::from(self.len);
        let beyond = u128::from(self.offset) + u128::from(len) > u128::from(SIZE);
        let allowed = match self.command {
            WRITE_ZEROES => 1 | 2 | 16,
            READ if structured => 1 | 4,
            BLOCK_STATUS if structured => 1 | 8,
            READ | WRITE | FLUSH | TRIM | CACHE => 1,
            _ => return 22,
        };
        if self.flags | allowed != allowed {
            return 22;
        }
        if self.command == FLUSH {
            return if self.offset | len == 0 { 0 } else { 22 };
        }
        let transfers = self.command == READ || self.command == WRITE;
        let aligned = (self.offset | len) % u64::from(BLOCK) == 0;
        if len == 0 || !aligned || (transfers && len > 32 << 20) {
            return 22;
        }
        match self.command {
            WRITE | WRITE_ZEROES if beyond => 28,
            _ if beyond => 22,
            WRITE_ZEROES if self.flags & 16 != 0 => 95,
            _ => 0,
        }
    }
}

struct Model {
    content: Vec<u8>,
    answers: Vec<Answer>,
}

struct Answer {
    cookie: u64,
    command: u16,
    offset: u64,
    len: u32,
    error: u32,
    data: Vec<u8>,
}

impl Model {
    fn answer(&mut self, request: &Request, error: u32) {
        let Request { command, cookie, offset, len, .. } = *request;
        let mut answer = Answer { cookie, command, offset, len, error, data: Vec::new() };
        if error == 0 && command != FLUSH {
            let range = &mut self.content[offset as usize..offset as usize + len as usize];
            match command {
                READ => answer.data = range.to_vec(),
                WRITE => range.fill(request.fill),
                WRITE_ZEROES => range.fill(0),
                // What the export in memory does.
                TRIM => range.fill(0x55),
                _ => {}
            }
        }
        self.answers.push(answer);
    }

    /// How `sent` differs from the answers, if it does.
    fn check(&self, mut sent: &[u8], structured: bool) -> Option<String> {
        for answer in &self.answers {
            let in_chunks =
                answer.error != 0 || answer.command == READ || answer.command == BLOCK_STATUS;
            let rest = if structured && in_chunks {
                answer.check_chunks(sent)
            } else {
                let simple = answer.simple();
                sent.strip_prefix(&simple[..]).ok_or("another simple reply".to_string())
            };
            match rest {
                Ok(rest) => sent = rest,
                Err(why) => return Some(format!("{why} to request {:#x}", answer.cookie)),
            }
        }
        (!sent.is_empty()).then(|| format!("{} bytes too many", sent.len()))
    }
}

impl Answer {
    fn simple(&self) -> Vec<u8> {
        let mut out = 0x6744_6698_u32.to_be_bytes().to_vec();
        out.extend(self.error.to_be_bytes());
        out.extend(self.cookie.to_be_bytes());
        out.extend(&self.data);
        out
    }

    /// What is behind the chunks of this answer.
    fn check_chunks<'a>(&self, sent: &'a [u8]) -> Result<&'a [u8], String> {
        let (first, mut rest) = Chunk::parse(sent).ok_or("no chunk")?;
        let mut chunks = vec![first];
        while !chunks[chunks.len() - 1].done {
            let (next, more) = Chunk::parse(rest).ok_or("no further chunk")?;
            chunks.push(next);
            rest = more;
        }
        if chunks.iter().any(|chunk| chunk.cookie != self.cookie) {
            return Err("a chunk for another request".into());
        }
        let says = &chunks[0].says;
        let right = match (self.error, self.command) {
            (0, READ) => *says == Says::Data { offset: self.offset, data: self.data.clone() },
            (0, _) => *says == Says::Extents(vec![(self.len, 0)]),
            (error, _) => matches!(says, Says::Error { errno, .. } if *errno == error),
        };
        if right { Ok(rest) } else { Err(format!("wrong chunks {chunks:?}")) }
    }
}
