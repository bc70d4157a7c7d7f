//! A device from power-on to reset, as decisions that init carries out: which slot runs and becomes good, when a
//! component is started again, how far the clock is to be believed, what an app may write, what a reset leaves.

pub mod boot_loader;
pub mod breadcrumb;
pub mod clock;
pub mod console;
pub mod console_line;
pub mod core_notes;
pub mod crash;
pub mod ends;
pub mod exit;
pub mod factory_reset;
pub mod group_events;
pub mod kernel_fault;
pub mod last_output;
pub mod log_line;
pub mod partition_table;
pub mod patience;
pub mod reducer;
pub mod slots;
pub mod superblock;
pub mod supervision;
pub mod uid_table;
pub mod writes;
