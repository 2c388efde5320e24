// SPDX-License-Identifier: GPL-2.0-only OR MIT
//! What an open builds: the table in memory, and in the end the session.

use std::rc::Rc;

use dmremap_core::allocator::Allocator;
use dmremap_core::commit::Commit;
use dmremap_core::machine::{ClientFlush, Job, LoadFault, Loader, Machine, Parts};
use dmremap_core::marks::{Busy, Pending};
use dmremap_core::pieces::Pieces;
use dmremap_core::readers::Readers;
use dmremap_core::region::RegionMap;
use dmremap_core::resolve::{Geometry, Shared, SharedParts};
use dmremap_core::settings::{Key, Setting, Settings};
use dmremap_core::slots::SlotMap;
use dmremap_core::table::Table;
use dmremap_format::{Layout, PageBytes, PageIndex, SlotLimits};

use crate::opening::Pages;
use crate::session::{FLUSHES, JOBS, QUEUES, Session, Words, words};
use crate::world::{Failure, World};

/// A session being built.
pub struct Building {
    shared: Rc<Shared<Words>>,
    loader: Loader<Words>,
    layout: Layout,
}

impl Building {
    /// Takes in a checked page of the table.
    ///
    /// # Errors
    /// The table cannot be.
    pub fn load(&mut self, page: PageIndex, image: &PageBytes) -> Result<(), LoadFault> {
        self.loader.page(&self.shared, page, image)
    }
}

impl World {
    /// Begins with an empty table.
    #[must_use]
    pub fn begin_building(&self, layout: Layout) -> Building {
        let max = layout.max_entries() as usize;
        let (table, writer) = Table::new(words(Table::<Words>::words(max)), max);
        let shared = Shared::new(SharedParts {
            geometry: Geometry {
                main_sectors: self.config.main_sectors,
                block_sectors: self.config.block_sectors as u8,
                data_start: layout.data_start(),
            },
            table,
            readers: Readers::new(words(Readers::<Words>::words(QUEUES)), QUEUES),
            region: words(RegionMap::<Words>::words()),
            busy: words(Busy::<Words>::words()),
            pending: words(Pending::<Words>::words()),
            pieces: words(Pieces::<Words>::words(QUEUES)),
            paths: words(Shared::<Words>::path_words(QUEUES)),
            queues: QUEUES,
        });
        let units = layout.spare_units();
        let loader = Loader {
            writer,
            allocator: Allocator::new(words(Allocator::<Words>::words(units)), units),
            slots: SlotMap::new(
                words(SlotMap::<Words>::words(layout.max_entries())),
                layout.max_entries(),
            ),
            limits: SlotLimits {
                main_sectors: self.config.main_sectors,
                block_sectors: self.config.block_sectors as u8,
                spare_units: [units, 0, 0, 0, 0, 0, 0, 0],
            },
        };
        Building { shared: Rc::new(shared), loader, layout }
    }

    /// The open has its commit machine: the volume serves.
    ///
    /// # Errors
    /// The settings are illegal.
    pub fn finish_building(
        &mut self,
        building: Building,
        commit: Commit<Pages>,
    ) -> Result<(), Failure> {
        let mut settings = Settings::default();
        let word = self.config.limit_ms.to_string();
        let limit = Setting::parse(Key::RecoveryLimit, word.as_bytes())
            .ok_or_else(|| Failure { why: "an illegal limit".into() })?;
        settings.set(limit);
        let machine = Machine::new(Parts {
            shared: Rc::clone(&building.shared),
            layout: building.layout,
            writer: building.loader.writer,
            allocator: building.loader.allocator,
            slots: building.loader.slots,
            commit,
            jobs: vec![Job::FREE; JOBS],
            flushes: vec![ClientFlush::FREE; FLUSHES],
            settings,
            read_only: false,
            seed: self.rng.word(),
        });
        self.session = Some(Session::new(building.shared, machine, building.layout));
        Ok(())
    }
}
