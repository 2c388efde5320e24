// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! Variants of the logic that are wrong on purpose, one rule withdrawn each, so that the simulator
//! and the exhaustive models can show that they would notice. Without the feature `broken`
//! [`is`] is constant false and nothing of it is compiled in.

macro_rules! variants {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One rule withdrawn.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Broken {
            /// Every rule in force.
            None = 0,
            $($(#[$doc])* $name,)*
        }

        /// All variants.
        pub const ALL: &[Broken] = &[$(Broken::$name,)*];

        impl Broken {
            /// Its name, as on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    Broken::None => "None",
                    $(Broken::$name => stringify!($name),)*
                }
            }

            /// The variant of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Broken> {
                ALL.iter().copied().find(|b| b.name() == name)
            }
        }
    };
}

variants! {
    /// A moved write is acknowledged before its entry is committed.
    AckBeforeCommit,
    /// The entry is committed before the data was flushed.
    CommitBeforeDataFlush,
    /// Nothing waits for pieces in flight.
    NoGrace,
    /// A piece stays counted until its request is answered (the driver's part).
    GraceCountsRequests,
    /// A piece is counted after it was resolved (the driver's part).
    PieceCountedAfterResolve,
    /// A failed write is judged by reading.
    VerdictByReading,
    /// Failed twice is enough.
    NoProbe,
    /// A probe that began before the failure counts.
    ProbeBeforeFailure,
    /// An old failure condemns the place where the block lives now.
    EvidenceNotResolvedAnew,
    /// A pending mark outlives the write that made the block good.
    PendingNotDroppedByWrite,
    /// Two recoveries move one unit.
    TwoMovers,
    /// A commit's image holds changes that nobody joined to it.
    CommitImageFromPublished,
    /// The allocator begins at the first unit after a reload.
    AllocateFromZero,
    /// One durable copy acknowledges.
    OneCopy,
    /// All five copies are written at once.
    AllCopiesAtOnce,
    /// Requests are served before the repairs of the open.
    ServeBeforeRepair,
    /// An open takes no new generation.
    NoGeneration,
    /// The generation is committed to the headers only.
    GenerationOnlyInHeader,
    /// A repair keeps the stamp of what it repairs.
    RepairUnderOldStamp,
    /// A freed spare unit is given out before its removal is acknowledged.
    UnitReusedBeforeRemovalAcknowledged,
    /// The count of failed flushes is not compared before a commit.
    RecoveryFlushErrorSwallowed,
    /// A recovery's failed flush is repeated without writing again.
    RecoveryFlushMerelyRepeated,
    /// A sibling that could not be read once is gone.
    SiblingGoneWithoutVerdict,
    /// The next commit of a page carries a change that is in doubt.
    DoubtfulChangeCarriedAlong,
    /// A flush covers writes that were answered while it was under way.
    FlushCountsUnansweredWrites,
    /// What was moved is not read back.
    NoReadBack,
    /// With the spare full a block that lives there is written to main.
    SpareBlockWrittenToMain,
    /// A gone block is read from its old spare unit.
    SpareContentServedForGone,
    /// A client's flush does not reach the spare.
    NoSpareFlush,
    /// A client's flush does not reach main.
    NoMainFlush,
}

#[cfg(feature = "broken")]
static SELECTED: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Puts one variant in force, for the whole process.
#[cfg(feature = "broken")]
pub fn select(broken: Broken) {
    SELECTED.store(broken as u32, core::sync::atomic::Ordering::SeqCst);
}

/// Whether this variant is in force.
#[cfg(feature = "broken")]
#[must_use]
pub fn is(broken: Broken) -> bool {
    SELECTED.load(core::sync::atomic::Ordering::Relaxed) == broken as u32
}

/// Whether this variant is in force: never, in this build.
#[cfg(not(feature = "broken"))]
#[must_use]
pub const fn is(_broken: Broken) -> bool {
    false
}
