// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! The grammar of messages: one line of words in, one plain [`Command`] out.
//!
//! The same parser serves `dmsetup message`, the control socket and the command line, so that a
//! script may use any of them. It checks the form and the range of every argument before anything
//! is done, and names the argument and its legal range when it refuses; whether a sector is a
//! block's first, or a spare sector free, is for the machine to say, which knows the table.
//!
//! Words of parts that come with later versions are known, so that a script gets a clear answer
//! instead of "no such message"; `help` does not list them.

use crate::settings::{KEY_NAMES, Key, Legal, Setting, number};
use crate::text::Text;

pub use crate::message_error::{Fault, ParseError};

/// The longest message taken, in bytes.
pub const MESSAGE_MAX_BYTES: usize = 256;
/// One more than the highest sector of main that the format can name (44 bits of units).
pub const MAIN_SECTORS_MAX: u64 = 1 << 47;
/// One more than the highest spare sector taken: 40 bits of units and what lies before them.
pub const SPARE_SECTORS_MAX: u64 = 1 << 44;
/// The longest run `add_remap` takes, in sectors (1 MiB).
pub const ADD_SECTORS_MAX: u64 = 2048;
/// The longest run `mark` takes, in sectors (32 MiB).
pub const MARK_SECTORS_MAX: u64 = 65_536;
/// The most runs one `list` may ask for; the reply shows how far it came.
pub const LIST_RUNS_MAX: u64 = 65_536;

/// Where on the spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpareAddress {
    /// A sector counted from the start of the device.
    Absolute(u64),
    /// `+N`: a sector counted from `data_start`.
    FromDataStart(u64),
}

impl SpareAddress {
    /// The absolute spare sector, or `None` if it lies beyond 64 bits.
    #[must_use]
    pub const fn sector(self, data_start: u64) -> Option<u64> {
        match self {
            SpareAddress::Absolute(sector) => Some(sector),
            SpareAddress::FromDataStart(sectors) => data_start.checked_add(sectors),
        }
    }
}

/// What a message asks for. Sectors are of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Command {
    /// Answer `pong`.
    Ping,
    /// List the messages.
    Help,
    /// The status line.
    Status,
    /// Move the unit that holds `sector`, with what can be read of it.
    Remap {
        /// Any sector of the unit.
        sector: u64,
        /// Where to; the allocator chooses if it is not given.
        to: Option<SpareAddress>,
    },
    /// Assert that what lies on the free spare sector is the content of main's sector from now on.
    /// Nothing is copied: the one exception to "no invented bytes".
    Add {
        /// First sector of the block on main.
        main: u64,
        /// Its place on the spare.
        spare: SpareAddress,
        /// How many sectors (1 to [`ADD_SECTORS_MAX`]); `None` for the one block.
        sectors: Option<u32>,
    },
    /// Bring the unit that holds `sector` home.
    Unremap {
        /// Any sector of the unit.
        sector: u64,
    },
    /// Read the unit that holds `sector` where it lives.
    Verify {
        /// Any sector of the unit.
        sector: u64,
    },
    /// List runs of moved, gone and pending blocks.
    List {
        /// First main sector of interest.
        from: u64,
        /// At most this many runs, 1 to [`LIST_RUNS_MAX`].
        count: u32,
    },
    /// Main's blocks in this run are bad, says somebody who knows. What lives on a spare, or is
    /// gone already, is left as it is.
    Mark {
        /// In which way.
        kind: MarkKind,
        /// First sector, a block's first.
        sector: u64,
        /// How many sectors (1 to [`MARK_SECTORS_MAX`], whole blocks); `None` for the one block.
        sectors: Option<u32>,
    },
    /// Bring every unit home.
    Clear {
        /// What cannot go home becomes gone, instead of the message being refused.
        force: bool,
    },
    /// Counters.
    Stats,
    /// Set the counters to zero.
    ClearStats,
    /// Commit what is not durable yet; answered with the durable generation and sequence.
    Save,
    /// Read all copies of the metadata again, and commit anew what is not whole.
    Restore,
    /// Change a setting.
    Set(Setting),
    /// Show a setting.
    Get(Key),
    /// A word whose part comes with a later version.
    Later(Later),
}

/// What `mark` makes of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// The device cannot read it: its reads fail at once, its next write goes to the spare.
    Pending,
    /// Its content exists nowhere: an error until it is overwritten.
    Gone,
}

impl MarkKind {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            MarkKind::Pending => "pending",
            MarkKind::Gone => "gone",
        }
    }
}

/// Words this version knows but cannot act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Later {
    /// `health`.
    Health,
    /// `scan`.
    Scan,
    /// `migrate`.
    Migrate,
    /// `spare_add`.
    SpareAdd,
    /// `spare_remove`.
    SpareRemove,
}

impl Later {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Later::Health => "health",
            Later::Scan => "scan",
            Later::Migrate => "migrate",
            Later::SpareAdd => "spare_add",
            Later::SpareRemove => "spare_remove",
        }
    }

    /// Appends the answer to it.
    pub fn write(self, out: &mut Text<'_>) {
        out.whole(self.word())
            .str(": this version does not have it, a later one will; nothing was done")
            .str("; help lists what there is");
    }
}

impl Command {
    /// Whether it changes a device, the metadata included. Such messages are refused while the
    /// volume is suspended, read-only or failed. (A pending mark lives in memory.)
    #[must_use]
    pub const fn writes(&self) -> bool {
        match self {
            Command::Remap { .. }
            | Command::Add { .. }
            | Command::Unremap { .. }
            | Command::Clear { .. }
            | Command::Mark { kind: MarkKind::Gone, .. }
            | Command::Save
            | Command::Restore
            | Command::Set(_) => true,
            Command::Ping
            | Command::Help
            | Command::Status
            | Command::Verify { .. }
            | Command::Mark { kind: MarkKind::Pending, .. }
            | Command::List { .. }
            | Command::Stats
            | Command::ClearStats
            | Command::Get(_)
            | Command::Later(_) => false,
        }
    }

    /// The word it is called by in answers.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Command::Ping => "ping",
            Command::Help => "help",
            Command::Status => "status",
            Command::Remap { .. } => "remap",
            Command::Add { .. } => "add",
            Command::Unremap { .. } => "unremap",
            Command::Verify { .. } => "verify",
            Command::List { .. } => "list",
            Command::Mark { .. } => "mark",
            Command::Clear { .. } => "clear",
            Command::Stats => "stats",
            Command::ClearStats => "clear_stats",
            Command::Save => "save",
            Command::Restore => "restore",
            Command::Set(_) => "set",
            Command::Get(_) => "get",
            Command::Later(later) => later.word(),
        }
    }
}

/// The answer to `help`.
pub const HELP: &str = "\
ping: is it there
status: the status line
list [FROM [COUNT]]: runs of moved, gone and pending blocks from main sector FROM
remap SECTOR [SPARE_SECTOR]: move the unit that holds SECTOR, with what can be read of it
add MAIN_SECTOR SPARE_SECTOR: what lies on that free spare sector IS the block, nothing is copied
unremap SECTOR: bring the unit that holds SECTOR home
verify SECTOR: read the unit that holds SECTOR where it lives
mark pending|gone SECTOR [SECTORS]: main cannot read these blocks, or their content is lost
clear [force]: bring every unit home; force: what cannot go home is gone
stats, clear_stats: counters
save: which state of the metadata is durable
restore: read all copies of the metadata again, write anew what is not whole
set KEY VALUE, get KEY: read_retries retry_backoff_ms recovery_limit_ms probe_timeout_ms \
pending_read auto_remap latency debug_level
Numbers are sectors of 512 bytes, decimal or 0x; SPARE_SECTOR +N counts from data_start.";

/// Reads a message whose sectors of main are bounded by the format only; see [`parse_within`].
///
/// # Errors
/// [`ParseError`] names the argument at fault and what is legal for it.
pub fn parse(text: &str) -> Result<Command, ParseError> {
    parse_within(text.as_bytes(), MAIN_SECTORS_MAX)
}

/// Reads a message for a volume of `main_sectors` sectors. Words are separated by blanks, tabs or
/// line ends; any bytes may come in.
///
/// # Errors
/// [`ParseError`] names the argument at fault and what is legal for it.
pub fn parse_within(text: &[u8], main_sectors: u64) -> Result<Command, ParseError> {
    let fail = |fault| Err(ParseError { form: "", argument: "", fault });
    if text.len() > MESSAGE_MAX_BYTES {
        return fail(Fault::TooLong);
    }
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let Some(word) = words.next() else { return fail(Fault::Empty) };
    if let Some(later) = later(word) {
        return Ok(Command::Later(later));
    }
    let Some(form) = form(word) else { return fail(Fault::NoSuchMessage) };
    let mut args = Args { words, form, main_sectors };
    let command = match word {
        b"ping" => Command::Ping,
        b"help" => Command::Help,
        b"status" | b"metadata_status" => Command::Status,
        b"remap" => Command::Remap { sector: args.main("SECTOR")?, to: args.optional_spare()? },
        // A remap "for a test" keeps the content: it moves, it does not assert.
        b"test_remap" => Command::Remap { sector: args.main("M")?, to: Some(args.spare("S")?) },
        b"add" => args.add(false)?,
        b"add_remap" => args.add(true)?,
        b"unremap" => Command::Unremap { sector: args.main("SECTOR")? },
        b"remove_remap" => Command::Unremap { sector: args.main("M")? },
        b"verify" => Command::Verify { sector: args.main("SECTOR")? },
        b"list" => args.list()?,
        b"mark" => args.mark()?,
        b"clear" => Command::Clear { force: args.force()? },
        b"clear_all" => Command::Clear { force: false },
        b"stats" | b"cache_stats" | b"spare_stats" => Command::Stats,
        b"clear_stats" => Command::ClearStats,
        b"save" | b"sync" => Command::Save,
        b"restore" => Command::Restore,
        b"set" => args.set()?,
        b"get" => Command::Get(args.key()?),
        _ => return fail(Fault::NoSuchMessage),
    };
    args.end()?;
    Ok(command)
}

/// The word of a later part; its arguments are not looked at.
fn later(word: &[u8]) -> Option<Later> {
    const ALL: [Later; 5] =
        [Later::Health, Later::Scan, Later::Migrate, Later::SpareAdd, Later::SpareRemove];
    ALL.into_iter().find(|later| later.word().as_bytes() == word)
}

/// How the message that begins with `word` is written.
fn form(word: &[u8]) -> Option<&'static str> {
    Some(match word {
        b"ping" => "ping",
        b"help" => "help",
        b"status" => "status",
        b"metadata_status" => "metadata_status",
        b"remap" => "remap SECTOR [SPARE_SECTOR]",
        b"test_remap" => "test_remap M S",
        b"add" => "add MAIN_SECTOR SPARE_SECTOR",
        b"add_remap" => "add_remap M S N",
        b"unremap" => "unremap SECTOR",
        b"remove_remap" => "remove_remap M",
        b"verify" => "verify SECTOR",
        b"list" => "list [FROM [COUNT]]",
        b"mark" => "mark pending|gone SECTOR [SECTORS]",
        b"clear" => "clear [force]",
        b"clear_all" => "clear_all",
        b"stats" => "stats",
        b"cache_stats" => "cache_stats",
        b"spare_stats" => "spare_stats",
        b"clear_stats" => "clear_stats",
        b"save" => "save",
        b"restore" => "restore",
        b"sync" => "sync",
        b"set" => "set KEY VALUE",
        b"get" => "get KEY",
        _ => return None,
    })
}

/// The words after the first.
struct Args<W> {
    words: W,
    form: &'static str,
    main_sectors: u64,
}

impl<'a, W: Iterator<Item = &'a [u8]>> Args<W> {
    fn error(&self, argument: &'static str, fault: Fault) -> ParseError {
        ParseError { form: self.form, argument, fault }
    }

    fn word(&mut self, argument: &'static str) -> Result<&'a [u8], ParseError> {
        let word = self.words.next();
        word.ok_or(ParseError { form: self.form, argument, fault: Fault::Missing })
    }

    fn end(&mut self) -> Result<(), ParseError> {
        match self.words.next() {
            None => Ok(()),
            Some(_) => Err(self.error("", Fault::TooMany)),
        }
    }

    /// `word` as a number from `low` to `high`.
    fn bounded(
        &self,
        argument: &'static str,
        word: &[u8],
        (low, high): (u64, u64),
    ) -> Result<u64, ParseError> {
        let legal = number(word).filter(|value| (low..=high).contains(value));
        legal.ok_or(self.error(argument, Fault::Range { low, high }))
    }

    /// Highest sector of main.
    fn last_main(&self) -> u64 {
        self.main_sectors.min(MAIN_SECTORS_MAX).saturating_sub(1)
    }

    fn main(&mut self, argument: &'static str) -> Result<u64, ParseError> {
        let word = self.word(argument)?;
        self.bounded(argument, word, (0, self.last_main()))
    }

    fn spare(&mut self, argument: &'static str) -> Result<SpareAddress, ParseError> {
        let word = self.word(argument)?;
        self.spare_in(argument, word)
    }

    fn optional_spare(&mut self) -> Result<Option<SpareAddress>, ParseError> {
        match self.words.next() {
            None => Ok(None),
            Some(word) => self.spare_in("SPARE_SECTOR", word).map(Some),
        }
    }

    fn spare_in(&self, argument: &'static str, word: &[u8]) -> Result<SpareAddress, ParseError> {
        let range = (0, SPARE_SECTORS_MAX.saturating_sub(1));
        match word {
            [b'+', rest @ ..] => {
                self.bounded(argument, rest, range).map(SpareAddress::FromDataStart)
            }
            _ => self.bounded(argument, word, range).map(SpareAddress::Absolute),
        }
    }

    fn add(&mut self, with_length: bool) -> Result<Command, ParseError> {
        let (m, s) = if with_length { ("M", "S") } else { ("MAIN_SECTOR", "SPARE_SECTOR") };
        let main = self.main(m)?;
        let spare = self.spare(s)?;
        let sectors = if with_length {
            let word = self.word("N")?;
            let left = self.last_main().saturating_sub(main).saturating_add(1);
            let sectors = self.bounded("N", word, (1, ADD_SECTORS_MAX.min(left)))?;
            u32::try_from(sectors).ok()
        } else {
            None
        };
        Ok(Command::Add { main, spare, sectors })
    }

    fn mark(&mut self) -> Result<Command, ParseError> {
        const WHAT: &str = "the word after mark";
        let kind = match self.word(WHAT)? {
            b"pending" => MarkKind::Pending,
            b"gone" => MarkKind::Gone,
            _ => return Err(self.error(WHAT, Fault::Words("pending", "gone"))),
        };
        let sector = self.main("SECTOR")?;
        let left = self.last_main().saturating_sub(sector).saturating_add(1);
        let sectors = match self.words.next() {
            None => None,
            Some(word) => {
                let range = (1, MARK_SECTORS_MAX.min(left));
                u32::try_from(self.bounded("SECTORS", word, range)?).ok()
            }
        };
        Ok(Command::Mark { kind, sector, sectors })
    }

    fn list(&mut self) -> Result<Command, ParseError> {
        let mut numbers = [0, LIST_RUNS_MAX];
        let ranges = [("FROM", (0, self.last_main())), ("COUNT", (1, LIST_RUNS_MAX))];
        for (place, (argument, range)) in numbers.iter_mut().zip(ranges) {
            match self.words.next() {
                None => break,
                Some(word) => *place = self.bounded(argument, word, range)?,
            }
        }
        let [from, count] = numbers;
        Ok(Command::List { from, count: u32::try_from(count).unwrap_or(1) })
    }

    fn force(&mut self) -> Result<bool, ParseError> {
        match self.words.next() {
            None => Ok(false),
            Some(b"force") => Ok(true),
            Some(_) => Err(self.error("the word after clear", Fault::Words("force", "left out"))),
        }
    }

    fn key(&mut self) -> Result<Key, ParseError> {
        let word = self.word("KEY")?;
        Key::from_name(word).ok_or(self.error("KEY", Fault::Names(KEY_NAMES)))
    }

    fn set(&mut self) -> Result<Command, ParseError> {
        let key = self.key()?;
        let word = self.word(key.name())?;
        let fault = match key.legal() {
            Legal::Range(low, high) => Fault::Range { low: low.into(), high: high.into() },
            Legal::Words(zero, one) => Fault::Words(zero, one),
        };
        let setting = Setting::parse(key, word);
        setting.map(Command::Set).ok_or(self.error(key.name(), fault))
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
