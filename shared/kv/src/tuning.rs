//! How RocksDB is set up: for small stores, little memory and a fast start.

use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, InfoLogger, LogLevel, Options};

/// Blocks kept in memory, over all families.
const CACHE_BYTES: usize = 32 << 20;
/// Unwritten changes kept in memory: for one family, and over all.
const FAMILY_BUFFER_BYTES: usize = 16 << 20;
const ALL_BUFFERS_BYTES: usize = 32 << 20;

/// Options of the database and of each family. `keep_logs`: what is in logs at the start stays there.
pub(crate) fn options(keep_logs: bool) -> Result<Options, rocksdb::Error> {
    // There is no function for the first, and this comes first: what makes new options of others does not keep what they
    // own. The identity is in the list of files too; a file for it alone would be two more flushes for each new store.
    let mut options = Options::default()
        .get_options_from_string(format!("avoid_flush_during_recovery={keep_logs};write_identity_file=false"))?;
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_open_files(256);
    options.set_max_background_jobs(2);
    // Every family would start fifteen threads to open its few files; with many families that alone took a tenth of a second.
    options.set_max_file_opening_threads(1);
    options.set_skip_stats_update_on_db_open(true);
    // RocksDB's own log file begins with some 1,700 lines of options at each start, whatever its level: half of the time that
    // opening takes. Its words go to our log instead; what fails also comes back as an error.
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, |level, text| match level {
        LogLevel::Error | LogLevel::Fatal => tracing::warn!("RocksDB: {}", text.trim_end()),
        LogLevel::Warn => tracing::debug!("RocksDB: {}", text.trim_end()),
        LogLevel::Debug | LogLevel::Info | LogLevel::Header => {}
    }));
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_db_write_buffer_size(ALL_BUFFERS_BYTES);
    options.set_write_buffer_size(FAMILY_BUFFER_BYTES);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(64 << 20);
    // Taken of the disk at once, and the stores are small.
    options.set_manifest_preallocation_size(64 << 10);
    options.set_compression_type(DBCompressionType::None);
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    blocks.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&blocks);
    Ok(options)
}
