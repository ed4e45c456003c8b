//! The content contract, in both homes: called directly, and through the bus.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod blobs;
mod disk;
mod following;
mod kit;
mod upkeep;
mod writing;

macro_rules! in_every_home {
    ($($name:ident in $area:ident,)*) => {
        mod direct {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$area::$name(super::kit::Kind::Direct).await; })*
        }
        mod bus {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() { super::$area::$name(super::kit::Kind::Bus).await; })*
        }
    };
}

in_every_home! {
    a_blob_is_written_read_listed_and_deleted in blobs,
    a_list_is_walked_in_pages in blobs,
    the_same_bytes_twice_are_one_blob in blobs,
    a_blob_whose_file_was_taken_away_is_fetched_again in blobs,
    of_many_those_are_told_that_are_there in blobs,
    a_reader_follows_a_writer in following,
    a_large_blob_is_handed_on_in_memory in following,
    a_document_is_read_before_it_is_committed in following,
    a_committed_blob_is_read_where_it_is_said_to_be in following,
    a_restart_voids_what_was_read in following,
    a_reader_that_follows_outlives_its_writer in following,
    waiting_ends_with_news in following,
    silence_is_news in following,
    who_has_nothing_new_is_heard_of in following,
    a_ref_can_be_watched in following,
    a_reader_ends_with_the_program in following,
    wrong_bytes_are_refused in writing,
    wrong_bytes_are_not_resumed in writing,
    one_writer_at_a_time in writing,
    what_a_silent_writer_still_writes_goes_nowhere in writing,
    what_is_not_in_the_file_is_not_believed in writing,
    a_commit_goes_on_without_its_caller in writing,
    ingests_are_bounded in writing,
    a_writer_learns_the_digest_so_far in writing,
    one_ingest_can_be_asked_for in writing,
    what_was_written_outlives_the_service in disk,
    a_crash_costs_at_most_what_was_not_kept in disk,
    a_full_disk_is_named in disk,
    a_store_is_opened_once in disk,
    many_go_at_once in upkeep,
    damage_is_found_and_mended in upkeep,
    the_store_measures_what_du_does in upkeep,
    only_an_idle_ingest_is_taken_away_for_its_age in upkeep,
}
